package vmtest

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestASuiteComesWithItsTestdata(t *testing.T) {
	s := Sources{Root: t.TempDir(), dir: t.TempDir()}
	suite := Suite{Package: "a/b", Run: "TestX"}
	if err := os.WriteFile(s.Binary(suite), []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	a := newArchive(&b)
	p := addSuite(a, s, suite)
	if p.Path != "/src/a/b/test" || p.Dir != "/src/a/b" || !slices.Contains(p.Args, "-test.run=TestX") {
		t.Errorf("without testdata: %+v", p)
	}
	data := filepath.Join(s.Root, "a/b/testdata/more")
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "x.txt"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	addSuite(a, s, suite)
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	all := entries(t, b.Bytes())
	for _, want := range []string{"100755 src/a/b/test program", "100644 src/a/b/testdata/more/x.txt text"} {
		if !slices.Contains(all, want) {
			t.Errorf("no %q among %q", want, all)
		}
	}
}

func TestASuiteThatWasNotBuiltIsAnError(t *testing.T) {
	a := newArchive(&bytes.Buffer{})
	addSuite(a, Sources{Root: t.TempDir(), dir: t.TempDir()}, Suite{Package: "bpf"})
	if err := a.close(); err == nil {
		t.Error("no error")
	}
}
