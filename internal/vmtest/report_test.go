package vmtest

import (
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReport(t *testing.T) {
	const good = "== start bpf\n\x16=== RUN   TestA\n\x16--- PASS: TestA (0.10s)\n"
	for name, c := range map[string]struct {
		said     string
		problems []string
	}{
		"all passed": {good + "\x16PASS\n\n== end bpf 0\n== done\n", nil},
		"a subtest within a line, and carriage returns": {
			good + "words\x16    --- PASS: TestA/b (0.00s)\r\n\n== end bpf 0\r\n== done\r\n", nil},
		"a test failed": {good + "\x16--- FAIL: TestB (1.00s)\n\n== end bpf 1\n== done\n",
			[]string{"bpf: TestB failed", "bpf ended with code 1"}},
		"a known skip":    {good + "\x16--- SKIP: TestOld (0.00s)\n\n== end bpf 0\n== done\n", nil},
		"an unknown skip": {good + "\x16--- SKIP: TestB (0.00s)\n\n== end bpf 0\n== done\n", []string{"bpf: TestB was skipped, and no reason is listed"}},
		"an unknown skip of a subtest": {good + "\x16    --- SKIP: TestA/b (0.00s)\n\n== end bpf 0\n== done\n",
			[]string{"bpf: TestA/b was skipped, and no reason is listed"}},
		"the binary died":     {good + "panic: x\n\n== end bpf 2\n== done\n", []string{"bpf ended with code 2"}},
		"the machine died":    {good, []string{`the machine ended before its tests did, in "bpf"`}},
		"a suite without one": {good + "\n== end bpf 0\n== start more\n\n== end more 0\n== done\n", []string{"more has no result"}},
		"the guest failed":    {"== error mount: no\n== done\n", []string{"mount: no", "no test has a result"}},
		"silence":             {"", []string{`the machine ended before its tests did, in ""`, "no test has a result"}},
		"what only looks like a result": {"== start bpf\n--- PASS: TestA (0.10s)\n\n== end bpf 0\n== done\n",
			[]string{"bpf has no result", "no test has a result"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &Report{Skips: map[string]string{"bpf TestOld": "a reason"}}
			if err := r.Read(strings.NewReader(c.said), io.Discard, "6.1"); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.problems, r.Problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReportShowsEachTest(t *testing.T) {
	const said = "== start bpf\n\x16=== RUN   TestA\n    a_test.go:1: words\n\x16--- PASS: TestA (0.10s)\n\n== end bpf 0\n== done\n"
	var out strings.Builder
	r := &Report{}
	if err := r.Read(strings.NewReader(said), &out, "6.1"); err != nil {
		t.Fatal(err)
	}
	want := "6.1 == start bpf\n6.1     a_test.go:1: words\n6.1 PASS bpf TestA (0.10s)\n6.1 == end bpf 0\n6.1 == done\n"
	if out.String() != want || r.Passed != 1 {
		t.Errorf("%d passed, shown:\n%s", r.Passed, out.String())
	}
}

func TestAPanicOfTheKernelIsAProblem(t *testing.T) {
	for log, bad := range map[string]bool{
		"[ 1.0] Kernel panic - not syncing: x\n":                      true,
		"[ 1.0] BUG: kernel NULL pointer dereference, address: 0x0\n": true,
		"[ 1.0] Oops: 0000 [#1]\n":                                    true,
		"[ 1.0] reboot: Power down\n":                                 false,
	} {
		r := &Report{}
		if err := r.Console(strings.NewReader(log)); err != nil || len(r.Problems) > 0 != bad {
			t.Errorf("%q: problems %q, %v", log, r.Problems, err)
		}
	}
}

func TestAMachineThatFailsIsAProblem(t *testing.T) {
	r := &Report{}
	qemu := exec.Command("sh", "-c", `printf '== start bpf\n'; exit 3`)
	if err := r.follow(qemu, io.Discard, "6.1"); err != nil {
		t.Fatal(err)
	}
	want := []string{`the machine ended before its tests did, in "bpf"`, "no test has a result", "qemu: exit status 3"}
	if diff := cmp.Diff(want, r.Problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if err := r.follow(exec.Command("/nonexistent/qemu"), io.Discard, "6.1"); err == nil {
		t.Error("no error of a machine that did not start")
	}
}
