package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/cgroup"
	"github.com/egresswarden/egresswarden/internal/testutil/docker"
	"github.com/egresswarden/egresswarden/internal/testutil/probe"
)

// places are those of an engine without user namespaces.
func (m *stage) places() []place {
	return []place{
		{name: "default bridge", network: "bridge", sends: "veth", families: "4"},
		{name: "user-defined bridge", network: "dual", sends: "veth", families: "46"},
		{name: "user-defined bridge with NET_RAW", network: "dual", sends: "veth", families: "46", raw: true},
		{name: "none", network: "none", sends: "none"},
		{name: "host", network: "host", sends: "host", families: "46", open: []string{"host network: shares every interface"}},
		{name: "host with NET_RAW", network: "host", sends: "host", families: "46", raw: true,
			open: []string{"host network: shares every interface", "NET_RAW: the host's own devices; cure: cap_drop: [NET_RAW]"}},
		{name: "beside an allowed one", network: "container:allowed", sends: "veth, of allowed", families: "46"},
		{name: "cgroup parent", network: "dual", sends: "veth", families: "46", tweak: func(h *container.HostConfig) { h.CgroupParent = m.parent }},
		{name: "host's cgroups seen", network: "dual", sends: "veth", families: "46", tweak: func(h *container.HostConfig) { h.CgroupnsMode = "host" }},
		{name: "own cgroups seen", network: "dual", sends: "veth", families: "46", tweak: func(h *container.HostConfig) { h.CgroupnsMode = "private" }},
		{name: "privileged", network: "dual", sends: "veth", families: "46", privileged: true, tweak: func(h *container.HostConfig) { h.CgroupnsMode = "private" },
			open: []string{"privileged: can leave its cgroup or detach the gate; cure: no privileged", "NET_ADMIN: somebody else"}},
		{name: "privileged, host's cgroups", network: "dual", sends: "veth", families: "46", privileged: true, tweak: func(h *container.HostConfig) { h.CgroupnsMode = "host" },
			open: []string{"privileged: can leave its cgroup or detach the gate", "cgroup tree: not judged", "NET_ADMIN: somebody else"}},
		{name: "NET_ADMIN", network: "dual", sends: "veth", families: "46", tweak: func(h *container.HostConfig) { h.CapAdd = []string{"NET_ADMIN"} },
			open: []string{"NET_ADMIN: somebody else on the link"}},
		{name: "docker.sock", network: "dual", sends: "veth", families: "46", tweak: func(h *container.HostConfig) { h.Binds = []string{m.docker.Socket + ":/docker.sock:ro"} },
			open: []string{"docker.sock: can start containers with any label"}},
	}
}

// TestModes places a container in every way, and holds that the gate refuses
// what its policy does; or that status and doctor say what is open.
func TestModes(t *testing.T) {
	m := newStage(t)
	for _, b := range bridgeless {
		m.world.Uplink(t, b.parent(), netip.MustParsePrefix(b.gateway4+"/24"), netip.MustParsePrefix(b.gateway6+"/64"))
	}
	m.watch(t)
	m.docker.Run(t, docker.Spec{Name: "allowed", Network: "dual", Cmd: []string{"stay"}})
	for _, p := range m.places() {
		t.Run(p.name, func(t *testing.T) { m.hold(t, p) })
	}
	for _, b := range bridgeless {
		m.bridgeless(t, b)
	}
	t.Run("beside a blocked one", m.beside)
	t.Run("a nested cgroup", m.nested)
	t.Run("inside another's cgroup", m.inside)
	t.Run("another cgroup", m.leaves)
	t.Run("made anew under the same name", m.anew)
	t.Run("what is said", m.told)
	nothing(t, m.never, "from any place")
}

// TestModesWithUserNamespaces does so where root in a container is nobody's.
func TestModesWithUserNamespaces(t *testing.T) {
	m := newStage(t, docker.Remapped)
	m.watch(t)
	host := func(h *container.HostConfig) { h.UsernsMode = "host" }
	for _, p := range []place{
		{name: "own user namespace", network: "dual", sends: "veth", families: "46", tweak: func(h *container.HostConfig) {
			// The engine does so itself where groups are the host's.
			h.Sysctls = map[string]string{"net.ipv4.ping_group_range": "0 65535"}
		}},
		{name: "host's user namespace", network: "dual", sends: "veth", families: "46", tweak: host},
		{name: "host's user namespace and network", network: "host", sends: "host", families: "46", tweak: host, open: []string{"host network: shares"}},
	} {
		t.Run(p.name, func(t *testing.T) { m.hold(t, p) })
	}
	t.Run("what is said", m.told)
	nothing(t, m.never, "from any user namespace")
}

// above is a kind of network that is above a device of the host's, of which a
// device can bear one kind.
type above struct{ driver, gateway4, gateway6 string }

func (a above) parent() string { return "egw" + a.driver }

var bridgeless = []above{{"macvlan", "10.203.50.1", "fd00:203:50::1"}, {"ipvlan", "10.203.51.1", "fd00:203:51::1"}}

// bridgeless places containers in networks above a device.
func (m *stage) bridgeless(t *testing.T, a above) {
	driver := a.driver
	if !m.world.Has(t, driver) {
		t.Logf("this kernel has no %s", driver)
		return
	}
	t.Run(driver, func(t *testing.T) {
		m.docker.Network(m.t, driver, network.CreateOptions{
			Driver: driver, Options: map[string]string{"parent": a.parent()},
			IPAM: &network.IPAM{Config: []network.IPAMConfig{
				{Subnet: a.gateway4 + "/24", Gateway: a.gateway4}, {Subnet: a.gateway6 + "/64", Gateway: a.gateway6},
			}},
		})
		loud := m.world.Capture(t, netip.MustParsePrefix("192.0.2.4/32"))
		free := m.run(place{name: "free " + driver, network: driver}, "")
		if r := dial(t, free, "192.0.2.4:443"); !r.OK || loud.Count(t, netip.MustParseAddr("192.0.2.4"), 443) == 0 {
			t.Errorf("what is not judged does not arrive, or is not seen: %s", r)
		}
		p := place{name: driver, network: driver, sends: driver, families: "46", open: []string{"link: no wall stands at eth0 (" + driver + ")"}}
		m.joins(t, m.hold(t, p))
		p.name, p.raw, p.open = driver+" with NET_RAW", true, append(p.open, "NET_RAW: eth0 ("+driver+"); cure: cap_drop: [NET_RAW]")
		m.hold(t, p)
	})
}

// joins holds that a container without a wall still tells the link a group.
func (m *stage) joins(t *testing.T, c *docker.Container) {
	group := netip.MustParseAddr("239.77.1.2")
	told := make(chan struct{}, 1)
	m.world.Tap(t, func(frame []byte) {
		if bytes.Contains(frame, group.AsSlice()) {
			select {
			case told <- struct{}{}:
			default:
			}
		}
	})
	for _, r := range c.Exec(t, "dial", "-how", "join", "-to", netip.AddrPortFrom(group, 9).String()) {
		if !r.OK {
			t.Fatal(r)
		}
	}
	select {
	case <-told:
	case <-time.After(testutil.Long):
		t.Error("the group is not told: the link has a wall")
	}
}

// beside holds that a container in the network of a blocked one is judged by
// its own label, and the blocked one by its own.
func (m *stage) beside(t *testing.T) {
	p := place{name: "blocked", network: "dual", sends: "veth"}
	blocked := m.run(p, "block")
	m.refused(t, blocked, "46")
	guest := m.run(place{name: "guest", network: "container:blocked"}, "")
	for _, to := range []string{"192.0.2.1:443", "[2001:db8:e::1]:443"} {
		for _, r := range guest.Exec(t, "dial", "-how", modesHow, "-to", to) {
			if !r.OK {
				t.Errorf("one that is not judged, in the network of a blocked one: %s", r)
			}
		}
	}
	m.refused(t, blocked, "46")
	m.held = append(m.held, p)
}

// nested sends from a cgroup below a container's own.
func (m *stage) nested(t *testing.T) {
	c := m.run(place{name: "outer", network: "dual"}, "block")
	m.refused(t, c, "46")
	g := cgroup.Below(t, c.Pid(t), "inner", "innermost")
	for family, to := range m.refusedAt() {
		denied(t, family, "46", g.Probe(t, m.world.Host, append(modesRefused, to)...))
	}
}

// inside puts a container's cgroup into that of one which may go out. Until the
// enforcer has seen it, it may too, which is told.
func (m *stage) inside(t *testing.T) {
	outer := m.run(place{name: "around", network: "dual"}, "")
	p := place{name: "inside another's", network: "dual", sends: "veth", tweak: func(h *container.HostConfig) { h.CgroupParent = "/docker/" + outer.ID },
		open: []string{"cgroup parent: judged as container " + outer.ID[:12] + ", until"}}
	c := m.run(p, "block")
	testutil.Eventually(t, "the enforcer has seen it", func() error {
		if r := dial(t, c, "192.0.2.6:443"); !r.Denied() {
			return errors.New(r.String())
		}
		return nil
	})
	m.refused(t, c, "46")
	if r := dial(t, outer, "192.0.2.7:443"); !r.OK {
		t.Errorf("the one around it: %s", r)
	}
	m.held = append(m.held, p)
}

// leaves lets processes move to another cgroup. They are held where they may not
// write there, or where the wall on the link takes what is nobody's for the
// container's; but not if they pass for another container, which is told.
func (m *stage) leaves(t *testing.T) {
	root, err := cgroup.Root()
	if err != nil {
		t.Fatal(err)
	}
	allowed := "/tree/docker/" + m.docker.Run(m.t, docker.Spec{Name: "other", Network: "dual", Cmd: []string{"stay"}}).ID
	read := place{name: "tree to read", network: "dual", sends: "veth", tweak: func(h *container.HostConfig) { h.Binds = []string{root + ":/tree:ro"} }}
	// In a cgroup namespace of its own it would not leave that, where the tree is
	// mounted with nsdelegate.
	writes := func(h *container.HostConfig) { h.Binds, h.CgroupnsMode = []string{root + ":/tree"}, "host" }
	write := place{name: "tree to write", network: "dual", sends: "veth", tweak: writes,
		open: []string{"cgroup tree: move into a cgroup that is not judged; cure: mount it read-only"}}
	host := write
	host.name, host.network, host.sends, host.open = "tree to write, host", "host", "host", append(slices.Clone(write.open), "host network: shares")
	for _, way := range []struct {
		p            place
		to, whose    string
		moves, leads bool
	}{
		{read, "/tree", "nobody's", false, false}, {read, allowed, "another's", false, false},
		{write, "/tree", "nobody's", true, false}, {write, allowed, "another's", true, true},
		{host, "/tree", "nobody's", true, true},
	} {
		t.Run(way.p.name+", "+way.whose, func(t *testing.T) {
			c := m.run(way.p, "block")
			m.refused(t, c, "46")
			dst, wait := m.refusedAt()['4'], "100ms"
			if way.leads {
				dst, wait = "192.0.2.2:443", "20s"
			}
			all := c.Exec(t, "dial", "-move", way.to, "-timeout", wait, "-to", dst)
			if all[0].OK != way.moves || all[1].OK != way.leads || !way.moves && all[1].Errno != "EPERM" {
				t.Errorf("moves %v, gets out %v: %v", way.moves, way.leads, all)
			}
			c.Remove(t)
		})
	}
	for _, p := range []place{read, write, host} {
		m.run(p, "block")
		m.held = append(m.held, p)
	}
}

// anew removes a container and makes it again, as compose does for a new image:
// the operator's mode and the policy are the workload's.
func (m *stage) anew(t *testing.T) {
	p := place{name: "shop", network: "dual", sends: "veth"}
	old := m.run(p, "learn")
	m.covered(t, p.workload())
	m.egw(t, "", "policy", "allow", p.workload(), "192.0.2.3", "--reason", "e2e")
	m.egw(t, "", "mode", p.workload(), "block", "--yes", "--reason", "e2e")
	for range 2 {
		old.Remove(t)
		spec := p.spec("learn")
		spec.Cmd = []string{"loop", "-how", "tcp,udp_sendto", "-rounds", "20", "-to", m.refusedAt()['4'], "-stay"}
		again := m.docker.Run(m.t, spec)
		for _, tally := range m.tallies(t, again) {
			if tally.Denied != tally.Attempts || tally.Attempts == 0 {
				t.Errorf("from its first instruction: %+v", tally)
			}
		}
		testutil.Eventually(t, "the workload's own rule is in force", func() error {
			if r := dial(t, again, "192.0.2.3:443"); !r.OK {
				return errors.New(r.String())
			}
			return nil
		})
		m.refused(t, again, "46")
		old = again
	}
	m.held = append(m.held, p)
}

// tallies waits for what a container's program wrote.
func (m *stage) tallies(t *testing.T, c *docker.Container) (all []probe.Tally) {
	t.Helper()
	testutil.Eventually(t, "the output of "+c.Name, func() (err error) {
		all, err = probe.ParseTallies(strings.NewReader(c.Logs(t)))
		if err == nil && len(all) != 2 {
			err = fmt.Errorf("%d lines", len(all))
		}
		return err
	})
	return all
}
