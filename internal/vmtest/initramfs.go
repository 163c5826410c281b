package vmtest

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path"
	"path/filepath"
	"time"
)

// PlanFile is where the guest finds what to run.
const PlanFile = "plan.json"

// Plan is what the guest runs.
type Plan struct {
	// Modules are loaded in this order.
	Modules []string
	// Disk is the root of a system to hand over to; empty is none.
	Disk string
	// Made tells the plans apart that a disk is given.
	Made time.Time
	// Programs run one after the other, in a system one a boot.
	Programs []Program
}

// Program is a test binary in the guest.
type Program struct {
	Name, Path, Dir string
	Args            []string
}

// writeInitramfs writes the root file system of the guest.
func writeInitramfs(ctx context.Context, to string, k Kernel, s Sources, suites []Suite) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	a := newArchive(f)
	var plan Plan
	if plan.Modules, err = addModules(ctx, a, k, Modules); err != nil {
		return err
	}
	a.copy("init", 0o755, s.Guest)
	for _, suite := range suites {
		plan.Programs = append(plan.Programs, addSuite(a, s, suite))
	}
	a.plan(PlanFile, plan)
	return a.close()
}

// plan adds a plan.
func (a *archive) plan(name string, plan Plan) {
	text, err := json.Marshal(plan)
	if err != nil && a.err == nil {
		a.err = err
	}
	a.file(name, 0o644, text)
}

// addModules adds the modules, and returns where the guest finds them.
func addModules(ctx context.Context, a *archive, k Kernel, names []string) ([]string, error) {
	files, err := moduleFiles(ctx, k, names)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, file := range files {
		data, err := readModule(ctx, file)
		if err != nil {
			return nil, err
		}
		name := path.Join("modules", moduleName(file)+".ko")
		a.file(name, 0o644, data)
		paths = append(paths, "/"+name)
	}
	return paths, nil
}

// testArgs are a test binary's. test2json's form of -v marks the lines that are
// the framework's.
func testArgs(run string) []string {
	return []string{"-test.v=test2json", "-test.short", "-test.timeout=" + suiteTimeout.String(), "-test.run=" + run}
}

// addSuite adds a test binary, and what its package has in testdata, at the
// place where go test would run it.
func addSuite(a *archive, s Sources, suite Suite) Program {
	dir := path.Join("src", suite.Package)
	p := Program{
		Name: suite.Package, Path: "/" + path.Join(dir, "test"), Dir: "/" + dir, Args: testArgs(suite.Run),
	}
	a.copy(p.Path[1:], 0o755, s.Binary(suite))
	data := filepath.Join(s.Root, suite.Package, "testdata")
	if _, err := os.Stat(data); err == nil {
		a.tree(path.Join(dir, "testdata"), data)
	}
	return p
}
