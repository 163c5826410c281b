// Package build compiles the programs that tests run, each once per test
// binary, as static executables.
package build

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Built names, if it is in the environment, a folder of programs that were built
// before, for machines without a compiler.
const Built = "EGW_BUILT"

// Module is the import path that packages given to Binary begin with.
const Module = "github.com/egresswarden/egresswarden"

var (
	mu    sync.Mutex
	built = map[string]func() (string, error){}
)

// Binary returns the path of the program in the module's package pkg, such as
// "cmd/egw". The test fails when it does not compile.
func Binary(t testing.TB, pkg string) string {
	t.Helper()
	path, err := once(pkg)()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func once(pkg string) func() (string, error) {
	mu.Lock()
	defer mu.Unlock()
	if built[pkg] == nil {
		built[pkg] = sync.OnceValues(func() (string, error) { return compile(pkg) })
	}
	return built[pkg]
}

// Name is what the program of a package is called in a folder of programs.
func Name(pkg string) string {
	return strings.ReplaceAll(strings.TrimPrefix(pkg, "cmd/"), "/", "-")
}

// compile puts the program aside and renames it, because the one of an earlier
// run may still be executing under the same name.
func compile(pkg string) (string, error) {
	if built := os.Getenv(Built); built != "" {
		path := filepath.Join(built, Name(pkg))
		_, err := os.Stat(path)
		return path, err
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("egwtest-bin-%d", os.Geteuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("build %s: %w", pkg, err)
	}
	aside, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return "", fmt.Errorf("build %s: %w", pkg, err)
	}
	defer os.RemoveAll(aside)
	name := Name(pkg)
	out := filepath.Join(aside, name)
	c := exec.Command("go", "build", "-trimpath", "-o", out, Module+"/"+pkg)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, text)
	}
	final := filepath.Join(dir, name)
	if err := os.Rename(out, final); err != nil {
		return "", fmt.Errorf("build %s: %w", pkg, err)
	}
	return final, nil
}
