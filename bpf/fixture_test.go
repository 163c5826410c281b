package bpf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/policy"
)

// fixture is a gate of its own at a cgroup of its own.
type fixture struct {
	*Gate
	o      Options
	cgroup string // where the programs attach
	// drained are the events that drain read.
	drained []Event
}

// newFixture opens and attaches a gate whose programs see only what runs below
// a new cgroup.
func newFixture(t testing.TB, change func(*Options)) *fixture {
	t.Helper()
	testutil.Privileged(t)
	f := &fixture{cgroup: newCgroup(t, "")}
	f.o = Options{
		PinDir:        fmt.Sprintf("/sys/fs/bpf/egwtest-%d-%s", os.Getpid(), filepath.Base(f.cgroup)),
		CgroupRoot:    f.cgroup,
		RingBytes:     1 << 20,
		MaxContainers: 64,
	}
	if change != nil {
		change(&f.o)
	}
	t.Cleanup(func() {
		if _, err := Detach(f.o.PinDir); err != nil {
			t.Errorf("detach: %v", err)
		}
	})
	f.Gate = openGate(t, f.o)
	if err := f.Attach(); err != nil {
		t.Fatal(err)
	}
	return f
}

// scaled is the number of rounds, or a fifth of it with -short, for a machine
// that is emulated.
func scaled(n int) int {
	if testing.Short() {
		return n/5 + 1
	}
	return n
}

func openGate(t testing.TB, o Options) *Gate {
	t.Helper()
	g, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return g
}

// newCgroup makes a cgroup below a parent, or at the top.
func newCgroup(t testing.TB, parent string) string {
	t.Helper()
	if parent == "" {
		root, err := CgroupRoot()
		if err != nil {
			t.Fatal(err)
		}
		parent = root
	}
	dir, err := os.MkdirTemp(parent, "egwtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
			t.Errorf("remove cgroup: %v", err)
		}
	})
	return dir
}

// enter moves this process into the cgroup until the test ends.
func enter(t testing.TB, cgroup string) {
	t.Helper()
	root, err := CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	back := filepath.Join(root, currentCgroup(t))
	join(t, cgroup)
	t.Cleanup(func() { join(t, back) })
}

func join(t testing.TB, cgroup string) {
	t.Helper()
	pid := strconv.Itoa(os.Getpid())
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(pid), 0); err != nil {
		t.Fatal(err)
	}
}

func currentCgroup(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var path string
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "0::%s", &path); err == nil {
			return path
		}
	}
	t.Fatal("this process is in no cgroup v2")
	return ""
}

// manage enters a new cgroup that is the container's of the index.
func (f *fixture) manage(t testing.TB, index uint32, s State) {
	t.Helper()
	dir := newCgroup(t, f.cgroup)
	f.putState(t, index, s)
	id, err := CgroupID(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.PutCgroup(id, index); err != nil {
		t.Fatal(err)
	}
	enter(t, dir)
}

func (f *fixture) putState(t testing.TB, index uint32, s State) {
	t.Helper()
	if err := f.SetState(index, s); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) putPolicy(t testing.TB, slot uint32, table *policy.Table, revision uint64) {
	t.Helper()
	if err := f.SetPolicy(slot, table, revision); err != nil {
		t.Fatal(err)
	}
}

// table makes a table of allowed prefixes, whose rules are numbered from 100.
func table(prefixes ...string) *policy.Table {
	t := &policy.Table{}
	for i, p := range prefixes {
		t.Prefixes = append(t.Prefixes, policy.PrefixEntry{
			Prefix: netip.MustParsePrefix(p),
			Match:  policy.Match{Action: policy.ActionAllow, Rule: 100 + uint32(i)},
		})
	}
	return t
}

// dial connects and reports the errno; 0 is success or a refusal by the peer.
func dial(network, addr string) syscall.Errno {
	c, err := net.Dial(network, addr)
	if err == nil {
		_ = c.Close()
		return 0
	}
	var errno syscall.Errno
	if errors.As(err, &errno) && errno != syscall.ECONNREFUSED {
		return errno
	}
	return 0
}
