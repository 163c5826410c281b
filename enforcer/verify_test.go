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
	c := exec.Command("sleep", "600")
	if err := init.Start(nil, c); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	put(t, r, labelled(id, "block"))
	root, err := cgroup.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(root, id, c.Process.Pid); err != nil {
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
