package build

import (
	"os/exec"
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
