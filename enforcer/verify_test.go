package enforcer

import (
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil/cgroup"
)

func TestTheCgroupOfAContainerIsFoundFromBelow(t *testing.T) {
	id, other := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for path, want := range map[string]string{
		"/docker/" + id:                                    "/docker/" + id,
		"/docker/" + id + "/init.scope":                    "/docker/" + id,
		"/docker/" + id + "/a/b/" + other:                  "/docker/" + id,
		"/system.slice/docker-" + id + ".scope":            "/system.slice/docker-" + id + ".scope",
		"/system.slice/docker-" + id + ".scope/init":       "/system.slice/docker-" + id + ".scope",
		"/docker/" + other + "/docker/" + id + "/services": "/docker/" + other + "/docker/" + id,
		"/docker/" + other + "/x":                          "/docker/" + other + "/x",
		"/elsewhere":                                       "/elsewhere",
	} {
		if got := containerCgroup(path, id); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestVerifyCoversAContainerWhoseInitMovedDown(t *testing.T) {
	id := strings.Repeat("5a", 32)
	own := cgroup.Named(t, id)
	init, beside := own.Child(t, "init"), own.Child(t, "beside")
	pid := sleeper(t, init)
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	put(t, r, labelled(id, "block"))
	root, err := cgroup.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(root, id, pid); err != nil {
		t.Fatal(err)
	}
	for _, g := range []*cgroup.Group{own, init, beside} {
		if k.cgroups[g.ID] != k.containers[id] {
			t.Errorf("%s is not known", g)
		}
	}
}

func TestAContainerThatTheGateCannotTellIsShown(t *testing.T) {
	id := strings.Repeat("6b", 32)
	r, _ := newTestRegistry(t, newFakeKernel())
	put(t, r, labelled(id, "block"))
	lost := func() string {
		c, _ := r.ofWorkload(r.List()[0].Workload)
		return c.Lost
	}
	r.note(id, errNoContainerCgroup)
	if lost() != errNoContainerCgroup.Error() {
		t.Errorf("lost: %q", lost())
	}
	r.note(id, fmt.Errorf("its process: %w", fs.ErrNotExist))
	if lost() != "" {
		t.Errorf("one that has ended is lost: %q", lost())
	}
}

func TestACgroupInsideAnotherContainersStaysItsOwn(t *testing.T) {
	outer, inner := strings.Repeat("7c", 32), strings.Repeat("7d", 32)
	out := cgroup.Named(t, outer)
	in := out.Child(t, inner)
	below, beside := in.Child(t, "below"), out.Child(t, "beside")
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	put(t, r, labelled(outer, "allow"))
	put(t, r, labelled(inner, "block"))
	pids := map[string]int{outer: sleeper(t, beside), inner: sleeper(t, below)}
	root, err := cgroup.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{outer, inner, outer} { // and looked at again
		if err := r.Verify(root, id, pids[id]); err != nil {
			t.Fatal(err)
		}
	}
	for g, id := range map[*cgroup.Group]string{out: outer, beside: outer, in: inner, below: inner} {
		if k.cgroups[g.ID] != k.containers[id] {
			t.Errorf("%s: index %d, want %d", g.Path, k.cgroups[g.ID], k.containers[id])
		}
	}
	c, _ := r.Lookup(k.containers[outer])
	tree, err := r.tree(c)
	if _, has := tree[below.ID]; err != nil || has || len(tree) != 2 {
		t.Errorf("the outer container's connections are looked for in %v, %v", tree, err)
	}
}

func TestAProcessInAnotherContainersCgroupTakesNothingFromIt(t *testing.T) {
	id, other := strings.Repeat("8e", 32), strings.Repeat("8f", 32)
	theirs := cgroup.Named(t, other)
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	put(t, r, labelled(id, "allow"))
	put(t, r, labelled(other, "block"))
	root, err := cgroup.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(root, id, sleeper(t, theirs)); err == nil {
		t.Error("it is taken for covered")
	}
	if index, known := k.cgroups[theirs.ID]; known {
		t.Errorf("the other's cgroup has index %d", index)
	}
	if c, _ := r.Lookup(k.containers[id]); !strings.Contains(c.Lost, "name-"+other) {
		t.Errorf("lost: %q", c.Lost)
	}
}

// sleeper is a process in a cgroup.
func sleeper(t *testing.T, g *cgroup.Group) int {
	t.Helper()
	c := exec.Command("sleep", "600")
	if err := g.Start(nil, c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	return c.Process.Pid
}
