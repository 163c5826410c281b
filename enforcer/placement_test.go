package enforcer

import (
	"errors"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"

	"github.com/egresswarden/egresswarden/enforcer/netns"
)

func TestWhatACapabilityListGives(t *testing.T) {
	for _, c := range []struct {
		name             string
		host             container.HostConfig
		raw, admin, root bool
	}{
		{"Docker's own", container.HostConfig{}, true, false, false},
		{"dropped", container.HostConfig{CapDrop: []string{"net_raw"}}, false, false, false},
		{"all dropped", container.HostConfig{CapDrop: []string{"ALL"}}, false, false, false},
		{"all dropped, one added", container.HostConfig{CapDrop: []string{"all"}, CapAdd: []string{"CAP_NET_RAW"}}, true, false, false},
		{"dropped and added", container.HostConfig{CapDrop: []string{"NET_RAW"}, CapAdd: []string{"NET_RAW", "NET_ADMIN"}}, true, true, false},
		{"all added", container.HostConfig{CapAdd: []string{"ALL"}}, true, true, true},
		{"all added, one dropped", container.HostConfig{CapAdd: []string{"ALL"}, CapDrop: []string{"CAP_NET_RAW"}}, false, true, true},
		{"privileged, which drops none", container.HostConfig{Privileged: true, CapDrop: []string{"ALL"}}, true, true, true},
	} {
		p := placed(container.InspectResponse{ContainerJSONBase: &container.ContainerJSONBase{HostConfig: &c.host}})
		if p.NetRaw != c.raw || p.NetAdmin != c.admin || p.SysAdmin != c.root {
			t.Errorf("%s: %+v", c.name, p)
		}
	}
}

func TestWhatAMountGives(t *testing.T) {
	type mount = container.MountPoint
	for _, c := range []struct {
		mount           mount
		cgroups, engine bool
	}{
		{mount{Source: "/srv/data", RW: true}, false, false},
		{mount{Source: "/sys/fs/cgroup", RW: true}, true, false},
		{mount{Source: "/sys/fs/cgroup"}, false, false},
		{mount{Source: "/sys", RW: true}, true, false},
		{mount{Source: "/sys/fs/cgroup2", RW: true}, false, false},
		{mount{Source: "/run/docker.sock"}, false, true},
		{mount{Source: "/run/egw/docker.sock", RW: true}, false, true},
		{mount{Source: "/var/run"}, false, true},
		{mount{Source: "/run/containerd"}, false, true},
		{mount{Source: "/run/user", RW: true}, false, false},
		{mount{Source: "/"}, false, true},
		{mount{Source: "/", RW: true}, true, true},
	} {
		base := &container.ContainerJSONBase{HostConfig: &container.HostConfig{}}
		p := placed(container.InspectResponse{ContainerJSONBase: base, Mounts: []mount{c.mount}})
		if p.CgroupMount != c.cgroups || p.DockerSock != c.engine {
			t.Errorf("%+v: %+v", c.mount, p)
		}
	}
}

func TestTheCgroupOfAnotherContainerIsFoundInAParent(t *testing.T) {
	id := strings.Repeat("0a", 32)
	for parent, want := range map[string]string{
		"": "", "/docker": "", "system.slice": "", "/docker/" + id: id[:12], "/docker/" + id + "/inner": id[:12],
		"docker-" + id + ".scope": id[:12], "/docker/" + id[1:]: "",
	} {
		base := &container.ContainerJSONBase{HostConfig: &container.HostConfig{Resources: container.Resources{CgroupParent: parent}}}
		if p := placed(container.InspectResponse{ContainerJSONBase: base}); p.CgroupOf != want {
			t.Errorf("%s: %q, want %q", parent, p.CgroupOf, want)
		}
	}
}

// Devices as a container has them.
var (
	lo      = netns.Device{Name: "lo", Index: 1, Kind: netns.Loopback, Up: true}
	tunnel  = netns.Device{Name: "sit0", Index: 2, Kind: "sit"}
	eth0    = netns.Device{Name: "eth0", Index: 3, Kind: "veth", Up: true, Peer: 9}
	macvlan = netns.Device{Name: "eth1", Index: 4, Kind: "macvlan", Up: true}
)

func sees(devices ...netns.Device) sight {
	return sight{Namespace: netns.Namespace{Devices: devices}, ok: true}
}

func TestTheWordsForANetwork(t *testing.T) {
	host := sight{Namespace: netns.Namespace{Host: true, Devices: []netns.Device{lo, eth0}}, ok: true}
	for _, c := range []struct {
		p    Placement
		s    sight
		want string
	}{
		{Placement{NetMode: "default"}, sees(lo, tunnel, eth0), "veth"},
		{Placement{NetMode: "shop"}, sees(lo, eth0, macvlan, eth0), "macvlan, veth"},
		{Placement{NetMode: "none"}, sees(lo, tunnel), "none"},
		{Placement{NetMode: "host"}, host, "host"},
		{Placement{NetMode: "container:1", Beside: "web"}, sees(lo, eth0), "veth, of web"},
		{Placement{NetMode: "container:1", Beside: "web"}, sight{}, "of web"},
		{Placement{NetMode: "host"}, sight{}, "host"},
		{Placement{NetMode: "shop"}, sight{}, ""},
		{Placement{NetMode: "shop"}, sight{ok: true, err: errors.New("no")}, ""},
	} {
		if got := c.p.network(c.s); got != c.want {
			t.Errorf("%+v, %+v: %q, want %q", c.p, c.s, got, c.want)
		}
	}
}

func TestWhatIsOpen(t *testing.T) {
	const cure = "cap_drop: [NET_RAW]"
	raw, admin := Placement{NetRaw: true}, Placement{NetAdmin: true}
	behind := sees(lo, eth0)
	behind.walls = map[int]bool{eth0.Peer: true}
	host := sight{Namespace: netns.Namespace{Host: true, Devices: []netns.Device{lo, eth0}}, ok: true}
	for name, c := range map[string]struct {
		s    subject
		want []string // what, with at least these words
	}{
		"nothing":                                  {subject{sight: behind}, nil},
		"packet sockets where none are refused":    {subject{Placement: raw, sight: sees(lo, eth0)}, []string{"link: no wall stands at eth0 (veth): what its kernel sends", "NET_RAW: no wall stands at eth0 (veth); cure: " + cure}},
		"every device without a wall":              {subject{Placement: raw, sight: sees(lo, macvlan, tunnel, eth0)}, []string{"link: eth0 (veth), eth1 (macvlan):", "NET_RAW: eth0 (veth), eth1 (macvlan);"}},
		"packet sockets that are refused":          {subject{Placement: raw, sight: sees(lo, eth0), refuses: true}, []string{"link: eth0"}},
		"packet sockets kept by the label":         {subject{Placement: raw, sight: sees(lo, eth0), refuses: true, raw: true}, []string{"link: eth0", "NET_RAW: kept by the label", "egress.raw=allow: sockets are kept"}},
		"packet sockets behind a wall":             {subject{Placement: raw, sight: behind}, nil},
		"packet sockets without a device":          {subject{Placement: raw, sight: sees(lo)}, nil},
		"packet sockets of one that does not run":  {subject{Placement: raw}, nil},
		"packet sockets where nothing can be seen": {subject{Placement: raw, sight: sight{ok: true, err: errors.New("no leave")}}, []string{"link: no leave", "NET_RAW: no leave"}},
		"host network":                             {subject{Placement: raw, sight: host, hostNet: true}, []string{"host network: abstract socket", "NET_RAW: the host's own devices"}},
		"privileged": {subject{Placement: Placement{Privileged: true, NetRaw: true, NetAdmin: true, SysAdmin: true}, sight: sees(lo, eth0)},
			[]string{"privileged: leave its cgroup", "link: eth0", "NET_RAW: cure: no privileged", "NET_ADMIN: by tunnels"}},
		"the cgroup tree":                   {subject{Placement: Placement{CgroupMount: true}}, []string{"cgroup tree: a cgroup that is not judged; cure: mount it read-only"}},
		"the host's cgroups, seen":          {subject{Placement: Placement{HostCgroups: true}}, nil},
		"the host's cgroups and a mount":    {subject{Placement: Placement{HostCgroups: true, SysAdmin: true}}, []string{"cgroup tree", "SYS_ADMIN: detach"}},
		"the engine":                        {subject{Placement: Placement{DockerSock: true}}, []string{"docker.sock: start containers"}},
		"inside another's cgroup":           {subject{Placement: Placement{CgroupOf: "0a0a"}}, []string{"cgroup parent: judged as container 0a0a"}},
		"processes that cannot be told":     {subject{lost: "no cgroup"}, []string{"cgroup: no cgroup"}},
		"a network of its own to work upon": {subject{Placement: admin, sight: behind}, []string{"NET_ADMIN: somebody else on the link"}},
	} {
		var got []string
		for _, o := range c.s.openings() {
			got = append(got, o.String())
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
			continue
		}
		for i, want := range c.want {
			if !hasWords(got[i], want) {
				t.Errorf("%s: %q, want %q", name, got[i], want)
			}
		}
	}
}

// hasWords tells whether a line has the same word before its first colon, and
// the rest of want somewhere behind.
func hasWords(line, want string) bool {
	what, words, _ := strings.Cut(want, ": ")
	head, rest, ok := strings.Cut(line, ": ")
	return ok && head == strings.TrimSuffix(what, ":") && strings.Contains(rest, words)
}
