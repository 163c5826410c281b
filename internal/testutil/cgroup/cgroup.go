// Package cgroup gives tests cgroups of the version 2 hierarchy, and starts
// processes that are born inside them, as a container's first process is.
package cgroup

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/build"
	"github.com/egresswarden/egresswarden/internal/testutil/probe"
	"github.com/egresswarden/egresswarden/internal/testutil/world"
	"golang.org/x/sys/unix"
)

// Group is a cgroup that a test made.
type Group struct {
	Path string
	// ID is what the kernel calls it in bpf_get_current_cgroup_id.
	ID uint64

	dir *os.File
}

// Root is where the version 2 hierarchy is mounted, alone or beside version 1.
func Root() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		left, right, _ := strings.Cut(s.Text(), " - ")
		if fields := strings.Fields(left); strings.HasPrefix(right, "cgroup2 ") && len(fields) > 4 {
			return fields[4], nil
		}
	}
	return "", errors.New("no cgroup2 mount in /proc/self/mountinfo")
}

// New makes a cgroup below the root that goes, with its processes, when the
// test ends.
func New(t testing.TB) *Group {
	t.Helper()
	testutil.Privileged(t)
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	path, err := os.MkdirTemp(root, "egwtest-")
	if err != nil {
		t.Fatal(err)
	}
	return open(t, path)
}

// Named makes a cgroup of that name below the root, such as docker/<id>; the
// parents that it had to make go as well.
func Named(t testing.TB, name string) *Group {
	t.Helper()
	testutil.Privileged(t)
	at, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	var g *Group
	for part := range strings.SplitSeq(name, "/") {
		at = filepath.Join(at, part)
		err := os.Mkdir(at, 0o755)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		g = open(t, at)
	}
	if g == nil || g.Path != at {
		t.Fatalf("cgroup %s exists", at)
	}
	return g
}

// Below makes nested cgroups inside the one of a process, such as a
// container's first, and returns the innermost.
func Below(t testing.TB, pid int, names ...string) *Group {
	t.Helper()
	testutil.Privileged(t)
	at, err := pathOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	g := &Group{Path: at}
	for _, name := range names {
		g = g.Child(t, name)
	}
	return g
}

// pathOf is the cgroup of a process.
func pathOf(pid int) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return filepath.Join(root, path), nil
		}
	}
	return "", fmt.Errorf("process %d has no cgroup of version 2", pid)
}

// Child makes a cgroup inside.
func (g *Group) Child(t testing.TB, name string) *Group {
	t.Helper()
	path := filepath.Join(g.Path, name)
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return open(t, path)
}

func open(t testing.TB, path string) *Group {
	dir, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	g := &Group{Path: path, ID: st.Ino, dir: dir}
	t.Cleanup(func() {
		dir.Close()
		g.Remove(t)
	})
	return g
}

// Remove kills what runs inside and removes the cgroup; once it is gone,
// nothing.
func (g *Group) Remove(t testing.TB) {
	t.Helper()
	err := os.WriteFile(filepath.Join(g.Path, "cgroup.kill"), []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("kill what runs in %s: %v", g.Path, err)
	}
	// Not t.Context, which has ended when cleanups run.
	err = testutil.Poll(context.Background(), testutil.Long, func() error {
		if err := os.Remove(g.Path); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	})
	if err != nil {
		t.Errorf("remove cgroup: %v", err)
	}
}

// Start starts the command inside the cgroup, where its first instruction
// runs already, and in the network namespace, if one is given.
func (g *Group) Start(ns *world.Namespace, c *exec.Cmd) error {
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.UseCgroupFD, c.SysProcAttr.CgroupFD = true, int(g.dir.Fd())
	if ns == nil {
		return c.Start()
	}
	return ns.Start(c)
}

// Probe runs the probe program inside until it ends, and returns what it
// reported.
func (g *Group) Probe(t testing.TB, ns *world.Namespace, args ...string) []probe.Result {
	t.Helper()
	c := exec.Command(build.Binary(t, "internal/testutil/probe/cmd"), args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := g.Start(ns, c); err != nil {
		t.Fatalf("start probe in %s: %v", g.Path, err)
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("probe %v: %v: %s", args, err, &errs)
	}
	rs, err := probe.Parse(&out)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// String is the path below the root, for test output.
func (g *Group) String() string { return fmt.Sprintf("cgroup %s (%d)", g.Path, g.ID) }
