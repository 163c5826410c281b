package enforcer

import (
	"context"
	"errors"
	"io/fs"

	"github.com/docker/docker/client"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/enforcer/netns"
	"github.com/egresswarden/egresswarden/policy"
)

// Opening is a way that the gate does not cover of a container.
type Opening struct {
	// What is a word for it, Why what it opens, Cure what closes it.
	What, Why, Cure string
	// Host: it concerns the whole host, whatever the container's own mode.
	Host bool
}

// String has the parts in their order.
func (o Opening) String() string { return o.What + ": " + o.Why + "; cure: " + o.Cure }

// subject is what the openings of a container depend on.
type subject struct {
	Placement
	sight
	hostNet bool
	// raw: the label egress.raw=allow. refuses: the kernel lets the gate refuse
	// packet sockets.
	raw, refuses bool
	// lost is why the gate cannot tell the container's processes.
	lost string
}

// openings are all of a container's, the worst first.
func (s subject) openings() []Opening {
	var out []Opening
	add := func(is bool, o Opening) {
		if is {
			out = append(out, o)
		}
	}
	add(s.lost != "", Opening{What: "cgroup", Why: "its processes are not told from the host's: " + s.lost, Cure: "see docs/OPERATIONS.md, EgwContainerUncovered"})
	add(s.Privileged, Opening{
		What: "privileged", Why: "its root can leave its cgroup or detach the gate", Cure: "no privileged; cap_add and devices for what it needs", Host: true,
	})
	add(s.CgroupMount || s.HostCgroups && s.SysAdmin, Opening{
		What: "cgroup tree", Why: "it can move into a cgroup that is not judged", Cure: "mount it read-only, and no cgroup: host with privileged or SYS_ADMIN", Host: true,
	})
	add(s.SysAdmin && !s.Privileged, Opening{What: "SYS_ADMIN", Why: "can detach the gate", Cure: "do not add it", Host: true})
	add(s.DockerSock, Opening{
		What: "docker.sock", Why: "can start containers with any label", Cure: "do not mount it, or a proxy that starts none", Host: true,
	})
	add(s.CgroupOf != "", Opening{
		What: "cgroup parent", Why: "at every start it is judged as container " + s.CgroupOf + ", until the enforcer has seen it", Cure: "no container's cgroup as cgroup_parent",
	})
	add(s.hostNet, Opening{
		What: "host network", Why: "shares every interface and abstract socket of the host", Cure: "a network of its own",
	})
	at := s.wallless()
	add(at != "" && !s.hostNet, Opening{
		What: "link", Why: "no wall stands at " + at + ": what its kernel sends by itself, such as the groups that it joins, is not judged", Cure: s.wallCure(),
	})
	if o, open := s.packetSockets(at); open {
		out = append(out, o)
	}
	admin := Opening{What: "NET_ADMIN", Why: "can lead what is allowed to somebody else on the link, and its addresses can be a message", Cure: "do not add it"}
	if at != "" {
		admin.Why = "can lead what is allowed elsewhere, by tunnels and devices of its own"
	}
	add(s.NetAdmin, admin)
	add(s.raw, Opening{
		What: "egress.raw=allow", Why: "raw, packet, SCTP and UDP-Lite sockets are kept by the label; what they send is judged", Cure: "leave the label out",
	})
	return out
}

// packetSockets is about those of a container that runs, whose devices at have
// no wall.
func (s subject) packetSockets(at string) (Opening, bool) {
	if !s.NetRaw || s.refuses && !s.raw {
		return Opening{}, false
	}
	o := Opening{
		What: "NET_RAW", Why: "packet sockets are not refused by this kernel, and no wall stands at " + at, Cure: "cap_drop: [NET_RAW]",
	}
	if s.raw && s.refuses {
		o.Why = "packet sockets are kept by the label egress.raw=allow, and no wall stands at " + at
	}
	if s.Privileged {
		o.Cure = "no privileged, which drops none"
	}
	return o, at != ""
}

// look sees the network of a container by its first process; 0 is none. Walls are the
// host's devices at which one stands.
func look(pid int, walls map[int]bool) sight {
	if pid == 0 {
		return sight{}
	}
	n, err := netns.Of(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return sight{}
	}
	return sight{Namespace: n, walls: walls, ok: true, err: err}
}

// placement puts what is open of a container into its status.
func (e *Enforcer) placement(c *ContainerStatus, walls map[int]bool) {
	s := subject{
		Placement: c.Placement, hostNet: c.HostNet, raw: c.Raw, refuses: e.gate.LacksSocketCreate() == nil, lost: c.Lost,
	}
	if c.Running {
		s.sight = look(c.pid, walls)
	}
	c.Network = s.network(s.sight)
	for _, o := range s.openings() {
		c.Open = append(c.Open, o.String())
	}
}

// Openings asks Docker, and looks at the network of the container if it runs.
// refuses is whether the gate refuses packet sockets on this host, pins where it is.
func Openings(ctx context.Context, api *client.Client, id, pins string, refuses bool) ([]Opening, error) {
	d, err := dockerEngine{api}.Inspect(ctx, id)
	if err != nil {
		return nil, err
	}
	wish, _ := parseLabels(d.Labels, d.ImageLabels, policy.ModeBlock)
	s := subject{Placement: d.Detail.Placement, hostNet: d.Detail.HostNet, raw: wish.Raw, refuses: refuses}
	if d.Running {
		walls, err := bpf.Walled(pins)
		if err != nil {
			return nil, err
		}
		s.sight = look(d.Detail.Pid, walls)
	}
	return s.openings(), nil
}
