package vmtest

// Suites are the tests that run on every kernel: those of the kernel side that
// need neither Docker nor a Go toolchain.
var Suites = []Suite{
	{Package: "bpf"},
	{Package: "internal/testutil/world"},
}

// KnownSkips are by series the skips that are no failure, with the reason.
var KnownSkips = map[string]map[string]string{}
