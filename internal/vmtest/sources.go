package vmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/egresswarden/egresswarden/internal/testutil/build"
)

// module is the import path of the packages in a Suite.
const module = "github.com/egresswarden/egresswarden/"

// Sources are the checkout and what was built of it for the guest.
type Sources struct {
	// Root is the checkout.
	Root string
	// Guest is the guest's init.
	Guest string
	dir   string
}

// Build compiles the guest's init and the test binaries into a directory.
func Build(ctx context.Context, dir string, suites []Suite) (Sources, error) {
	s, err := newSources(ctx, dir)
	if err != nil {
		return s, err
	}
	for _, suite := range suites {
		if err := goTool(ctx, "test", "-c", "-o", s.Binary(suite), module+suite.Package); err != nil {
			return s, err
		}
	}
	return s, nil
}

// BuildSystem compiles what a system on a disk wants: the programs, as make
// build does, and the tests.
func BuildSystem(ctx context.Context, dir string) (Sources, error) {
	s, err := newSources(ctx, dir)
	if err != nil {
		return s, err
	}
	errs := []error{
		goTool(ctx, "build", "-o", s.path("bin")+"/", module+"cmd/..."),
		goTool(ctx, "test", "-tags", "vmsystem", "-c", "-o", s.path("system.test"), module+"internal/vmtest/system"),
		goTool(ctx, "test", "-c", "-o", s.path("e2e.test"), module+"e2e"),
	}
	for _, pkg := range built {
		errs = append(errs, goTool(ctx, "build", "-o", s.path(build.Name(pkg)), module+pkg))
	}
	return s, errors.Join(errs...)
}

func newSources(ctx context.Context, dir string) (Sources, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return Sources{}, fmt.Errorf("find the module: %w", err)
	}
	s := Sources{Root: strings.TrimSpace(string(out)), Guest: filepath.Join(dir, "init"), dir: dir}
	return s, goTool(ctx, "build", "-o", s.Guest, module+"internal/vmtest/guest")
}

// path is where something built is.
func (s Sources) path(name string) string { return filepath.Join(s.dir, name) }

// Binary is the test binary of a suite.
func (s Sources) Binary(suite Suite) string {
	return s.path(strings.ReplaceAll(suite.Package, "/", "-") + ".test")
}

func goTool(ctx context.Context, verb string, args ...string) error {
	c := exec.CommandContext(ctx, "go", append([]string{verb, "-trimpath", "-ldflags=-s -w"}, args...)...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s %s: %w\n%s", verb, strings.Join(args, " "), err, text)
	}
	return nil
}
