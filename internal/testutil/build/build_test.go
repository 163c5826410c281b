package build

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestBinary(t *testing.T) {
	path := Binary(t, "internal/testutil/probe/cmd")
	if again := Binary(t, "internal/testutil/probe/cmd"); again != path {
		t.Errorf("built twice: %s and %s", path, again)
	}
	out, err := exec.Command(path, "dial", "-how", "none").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "unknown technique") {
		t.Errorf("the program does not run: %v, %s", err, out)
	}
}

func TestCompileNamesThePackage(t *testing.T) {
	if _, err := compile("internal/nothing"); err == nil || !strings.Contains(err.Error(), "internal/nothing") {
		t.Errorf("err = %v, want one that names the package", err)
	}
}

func TestWhatWasBuiltBeforeIsTaken(t *testing.T) {
	t.Setenv(Built, t.TempDir())
	want := filepath.Join(os.Getenv(Built), "internal-nothing")
	if _, err := compile("internal/nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("err = %v of a program that is not there", err)
	}
	if err := os.WriteFile(want, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := compile("internal/nothing"); err != nil || got != want {
		t.Errorf("got %s, %v", got, err)
	}
}
