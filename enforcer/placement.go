package enforcer

import (
	"cmp"
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/enforcer/netns"
)

// Placement is how Docker was told to place a container, as far as it says what
// the gate can hold there.
type Placement struct {
	// NetMode is Docker's word; Beside names the container whose network it
	// shares.
	NetMode string `json:"network_mode,omitempty"`
	Beside  string `json:"network_of,omitempty"`

	Privileged bool `json:"privileged,omitempty"`
	NetRaw     bool `json:"net_raw,omitempty"`
	NetAdmin   bool `json:"net_admin,omitempty"`
	SysAdmin   bool `json:"sys_admin,omitempty"`
	// HostCgroups: it sees the host's cgroups, not its own as the root.
	HostCgroups bool `json:"host_cgroups,omitempty"`
	// CgroupOf is the container in whose cgroup its own is.
	CgroupOf string `json:"cgroup_of,omitempty"`
	// CgroupMount: the host's cgroup tree is mounted, and it may write there.
	CgroupMount bool `json:"cgroup_mount,omitempty"`
	DockerSock  bool `json:"docker_sock,omitempty"`
}

// placed reads what Docker says; all but the network.
func placed(c container.InspectResponse) Placement {
	p := Placement{}
	if h := c.HostConfig; h != nil {
		p.NetMode, p.Privileged = string(h.NetworkMode), h.Privileged
		p.HostCgroups, p.CgroupOf = h.CgroupnsMode.IsHost(), containerIn(h.CgroupParent)
		p.NetRaw = capable(h, "NET_RAW", true)
		p.NetAdmin = capable(h, "NET_ADMIN", false)
		p.SysAdmin = capable(h, "SYS_ADMIN", false)
	}
	root, err := bpf.CgroupRoot()
	if err != nil {
		root = "/sys/fs/cgroup"
	}
	for _, m := range c.Mounts {
		p.CgroupMount = p.CgroupMount || m.RW && (within(m.Source, root) || within(root, m.Source))
		// A socket on a file system that is read-only takes connections.
		p.DockerSock = p.DockerSock || slices.ContainsFunc(engineSockets, func(socket string) bool {
			return filepath.Base(m.Source) == filepath.Base(socket) || within(socket, m.Source)
		})
	}
	return p
}

// containerIn finds the innermost cgroup of a path that is named as those of
// containers are.
func containerIn(path string) string {
	for _, part := range slices.Backward(strings.Split(path, "/")) {
		if m := cgroupName.FindStringSubmatch(part); m != nil {
			return short(m[1])
		}
	}
	return ""
}

// cgroupName is what Docker's drivers give a container's cgroup.
var cgroupName = regexp.MustCompile(`^(?:docker-)?([0-9a-f]{64})(?:\.scope)?$`)

// engineSockets are where one can start containers without being asked for labels.
var engineSockets = []string{"/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock"}

// within tells whether a path is a folder or below it.
func within(path, folder string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// capable tells whether a container has a capability, which Docker gives by
// default or not.
func capable(h *container.HostConfig, name string, byDefault bool) bool {
	in := func(caps []string, want string) bool {
		return slices.ContainsFunc(caps, func(c string) bool { return strings.TrimPrefix(strings.ToUpper(c), "CAP_") == want })
	}
	added, dropped := in(h.CapAdd, name), in(h.CapDrop, name)
	switch {
	case h.Privileged:
		return true
	case in(h.CapAdd, "ALL"):
		return !dropped
	case in(h.CapDrop, "ALL"):
		return added
	}
	return added || byDefault && !dropped
}

// maxJoined bounds how many containers share a network one through the other.
const maxJoined = 8

// network tells whether a network mode leads to the host's own network, also
// through other containers, and the name of the container that it joins. What
// cannot be found out counts as the host's, whose loopback is judged.
func (d dockerEngine) network(ctx context.Context, m container.NetworkMode, joined int) (host bool, beside string) {
	if !m.IsContainer() {
		return m.IsHost(), ""
	}
	beside = short(m.ConnectedContainer())
	if joined == maxJoined {
		return true, beside
	}
	c, err := d.ContainerInspect(ctx, m.ConnectedContainer())
	if err != nil || c.HostConfig == nil {
		return true, beside
	}
	host, _ = d.network(ctx, c.HostConfig.NetworkMode, joined+1)
	return host, strings.TrimPrefix(c.Name, "/")
}

// sight is a look at the network of a container that runs.
type sight struct {
	netns.Namespace
	// walls are the host's devices that have one, see devices.go.
	walls map[int]bool
	// ok is false where the container does not run; err says why there was
	// nothing to be seen of one that does.
	ok  bool
	err error
}

// network puts into words what a container sends by.
func (p Placement) network(s sight) string {
	text := p.NetMode
	switch {
	case s.ok && s.err == nil:
		text = strings.Join(s.kinds(), ", ")
	case p.Beside != "":
		text = ""
	case text != "host" && text != "none":
		text = "" // Docker's name of a network says nothing of a device
	}
	if p.Beside != "" {
		text = strings.TrimPrefix(text+", of "+p.Beside, ", ")
	}
	return text
}

// kinds are those of the devices that lead out, without any: none.
func (s sight) kinds() []string {
	if s.Host {
		return []string{"host"}
	}
	var out []string
	for _, d := range s.Devices {
		if leadsOut(d) {
			out = append(out, d.Kind)
		}
	}
	slices.Sort(out)
	if out = slices.Compact(out); len(out) == 0 {
		return []string{"none"}
	}
	return out
}

// leadsOut tells whether frames leave by a device. To make one that does, or to
// raise it, takes NET_ADMIN.
func leadsOut(d netns.Device) bool { return d.Up && d.Kind != netns.Loopback && d.Kind != "dummy" }

// wallCure is what would put a wall where none is.
func (s sight) wallCure() string {
	for _, d := range s.Devices {
		if leadsOut(d) && d.Peer != 0 && !s.walls[d.Peer] {
			return "start the enforcer, which puts one there"
		}
	}
	return "a bridge network"
}

// wallless are the devices at which nothing drops what packet sockets write; of a
// container that does not run, none.
func (s sight) wallless() string {
	if !s.ok {
		return ""
	}
	if s.err != nil {
		return "devices that could not be looked at (" + s.err.Error() + ")"
	}
	if s.Host {
		return "the host's own devices"
	}
	var out []string
	for _, d := range s.Devices {
		if leadsOut(d) && (d.Peer == 0 || !s.walls[d.Peer]) {
			out = append(out, d.Name+" ("+d.Kind+")")
		}
	}
	slices.SortFunc(out, cmp.Compare[string])
	return strings.Join(out, ", ")
}
