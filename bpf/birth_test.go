package bpf

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/policy"
)

func newContainerID() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// mkdir makes a cgroup of that name and returns its path and id.
func mkdir(t testing.TB, parent, name string) (string, uint64) {
	t.Helper()
	dir := filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
			t.Errorf("remove cgroup: %v", err)
		}
	})
	id, err := CgroupID(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, id
}

func (f *fixture) putContainer(t testing.TB, id string, index uint32) {
	t.Helper()
	if err := f.PutContainer(id, index); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) births(t testing.TB) (known, unknown uint64) {
	t.Helper()
	known, unknown, err := f.Births()
	if err != nil {
		t.Fatal(err)
	}
	return known, unknown
}

func TestABirthIsKnownBeforeTheFirstInstruction(t *testing.T) {
	f := newFixture(t, nil)
	open, closed := newContainerID(), newContainerID()
	f.putState(t, 1, State{Mode: policy.ModeLearn, HostNetwork: true})
	f.putState(t, 2, State{Mode: policy.ModeBlock, HostNetwork: true})
	f.putState(t, 0, State{Mode: policy.ModeBlock, HostNetwork: true})
	f.putContainer(t, open, 1)
	f.putContainer(t, closed, 2)
	for _, c := range []struct {
		name, dir string
		known     bool
		index     uint32
		passes    bool
	}{
		{"a known container under cgroupfs", open, true, 1, true},
		{"a known container under systemd", "docker-" + closed + ".scope", true, 2, false},
		{"a container never heard of", newContainerID(), true, 0, false},
		{"one never heard of under systemd", "docker-" + newContainerID() + ".scope", true, 0, false},
		{"a cgroup of the host", "user.slice", false, 0, true},
		{"a name as long as an id", "z" + newContainerID()[1:], false, 0, true},
		{"capital letters", "ABCDEF" + newContainerID()[6:], false, 0, true},
		{"another scope", "podman-" + newContainerID() + ".scope", false, 0, true},
		{"a shorter id", newContainerID()[1:], false, 0, true},
	} {
		dir, id := mkdir(t, f.cgroup, c.dir)
		all, err := f.Cgroups()
		if err != nil {
			t.Fatal(err)
		}
		if index, ok := all[id]; ok != c.known || index != c.index {
			t.Errorf("%s: index %d, known %v; want %d, %v", c.name, index, ok, c.index, c.known)
		}
		if got := sendsIn(t, dir); got != c.passes {
			t.Errorf("%s: passes %v, want %v", c.name, got, c.passes)
		}
	}
	// Docker may be making containers on this machine meanwhile.
	if known, unknown := f.births(t); known < 2 || unknown < 2 {
		t.Errorf("births: %d known, %d unknown; want 2 of each at least", known, unknown)
	}
}

func TestChildrenInheritAndTheDeadAreForgotten(t *testing.T) {
	f := newFixture(t, nil)
	id := newContainerID()
	f.putState(t, 5, State{Mode: policy.ModeBlock, HostNetwork: true})
	f.putContainer(t, id, 5)
	top, topID := mkdir(t, f.cgroup, id)
	child, childID := mkdir(t, top, "init.scope")
	inner, innerID := mkdir(t, child, newContainerID()) // docker in docker
	all, err := f.Cgroups()
	if err != nil {
		t.Fatal(err)
	}
	for name, id := range map[string]uint64{"top": topID, "child": childID, "inner": innerID} {
		if all[id] != 5 {
			t.Errorf("%s: index %d, want 5", name, all[id])
		}
	}
	if sendsIn(t, inner) {
		t.Error("a container in the container passes")
	}
	for _, dir := range []string{inner, child, top} {
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
	}
	if all, err = f.Cgroups(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []uint64{topID, childID, innerID} {
		if _, ok := all[id]; ok {
			t.Errorf("cgroup %d is removed, but still known", id)
		}
	}
}

func TestOtherHierarchiesAreNotTaken(t *testing.T) {
	f := newFixture(t, nil)
	v1 := t.TempDir()
	// A named one needs no controller, and so exists beside a pure v2.
	if err := unix.Mount("none", v1, "cgroup", 0, "none,name=egwtest"); err != nil {
		t.Logf("this kernel has no cgroup v1, so there is nothing to take: %v", err)
		return
	}
	defer func() {
		if err := unix.Unmount(v1, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	}()
	id := newContainerID()
	f.putContainer(t, id, 3)
	dir := filepath.Join(v1, id)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(dir)
	all, err := f.Cgroups()
	if err != nil {
		t.Fatal(err)
	}
	for cgroup, index := range all {
		if index == 3 {
			t.Errorf("cgroup %d is taken for the container, of another hierarchy", cgroup)
		}
	}
}

func TestContainersArePutListedAndRemoved(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.MaxContainers = 8 })
	ids := make([]string, 8)
	for i := range ids {
		ids[i] = newContainerID()
		f.putContainer(t, ids[i], uint32(i))
	}
	if err := f.PutContainer(newContainerID(), 1); !errors.Is(err, ErrFull) {
		t.Errorf("one container more than there is room: %v, want ErrFull", err)
	}
	if err := f.PutContainer(newContainerID(), 8); !errors.Is(err, ErrRange) {
		t.Errorf("an index too high: %v, want ErrRange", err)
	}
	if err := f.PutContainer("web", 1); err == nil {
		t.Error("a name passes for an id")
	}
	if err := f.RemoveContainer(ids[3]); err != nil {
		t.Error(err)
	}
	if err := f.RemoveContainer(ids[3]); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v, want ErrNotFound", err)
	}
	all, err := f.Containers()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 7 || all[ids[5]] != 5 {
		t.Errorf("containers: %v", all)
	}
}
