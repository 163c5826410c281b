// Package doctor looks at a host and says what of the gate works there, what
// does not, and what to do about it.
package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/policy"
)

// Level is how bad a finding is.
type Level string

// The levels. Fail means that something is not enforced.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Check is one finding.
type Check struct {
	Name   string `json:"name"`
	Level  Level  `json:"level"`
	Detail string `json:"detail"`
	Cure   string `json:"cure,omitempty"`
}

// Options say where to look.
type Options struct {
	Pins   string
	Docker string
	// CgroupRoot is where the gate is attached; empty is the root of the
	// hierarchy.
	CgroupRoot string
	// Probe is the command that dials once and prints what it met, see Dial.
	Probe []string
}

// root is the cgroup that the gate is attached to.
func (o Options) root() (string, error) {
	if o.CgroupRoot != "" {
		return o.CgroupRoot, nil
	}
	return bpf.CgroupRoot()
}

// Run makes every check. It changes nothing, but for a cgroup that lives as
// long as the probe.
func Run(ctx context.Context, o Options) []Check {
	checks := append([]Check{kernelVersion(), cgroups()}, features()...)
	checks = append(checks, pinned(o.Pins), others(o), probe(ctx, o))
	return append(checks, docker(ctx, o)...)
}

func kernelVersion() Check {
	var u unix.Utsname
	c := Check{Name: "kernel", Level: OK}
	if err := unix.Uname(&u); err != nil {
		return Check{Name: "kernel", Level: Fail, Detail: err.Error()}
	}
	c.Detail = unix.ByteSliceToString(u.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(c.Detail, "%d.%d", &major, &minor); err != nil || major < 6 || major == 6 && minor < 1 {
		c.Level, c.Cure = Fail, "6.1 is the oldest kernel that is supported: upgrade the kernel"
	}
	return c
}

// features are what the gate needs of the kernel and its file systems.
func features() []Check {
	var checks []Check
	for _, f := range bpf.Features() {
		c := Check{Name: f.Name, Level: OK}
		if f.Err != nil && f.Optional {
			c.Level, c.Detail, c.Cure = Warn, "only at the links of containers: "+f.Err.Error(), "drop NET_RAW of the containers that this list names, or use a kernel that takes fmod_ret programs"
		} else if f.Err != nil {
			c.Level, c.Detail, c.Cure = Fail, f.Err.Error(), "see docs/THREATS.md for what the gate needs of a kernel"
		}
		checks = append(checks, c)
	}
	return checks
}

func cgroups() Check {
	root, err := bpf.CgroupRoot()
	if err != nil {
		return Check{"cgroup", Fail, err.Error(), "mount cgroup2: mount -t cgroup2 none /sys/fs/cgroup"}
	}
	mode := "hybrid"
	if root == "/sys/fs/cgroup" {
		mode = "pure v2"
	}
	return Check{Name: "cgroup", Level: OK, Detail: fmt.Sprintf("%s, version 2 at %s", mode, root)}
}

func pinned(pins string) Check {
	found, err := bpf.Pins(pins)
	switch {
	case err != nil:
		return Check{"gate", Fail, err.Error(), "run as root"}
	case len(found) == 0:
		return Check{"gate", Fail, "no gate is pinned at " + pins, "start egw up or egw-enforcer"}
	case len(found) > 1 || found[0].Layout != bpf.Layout:
		return Check{"gate", Warn, fmt.Sprintf("pinned are %v, this build has layout %d", found, bpf.Layout), "restart the enforcer of this build"}
	case !attached(found[0]):
		return Check{"gate", Fail, fmt.Sprintf("only %s are attached", strings.Join(found[0].Links, ", ")), "restart the enforcer"}
	}
	return Check{Name: "gate", Level: OK, Detail: fmt.Sprintf("pinned at %s, layout %d, %s", pins, bpf.Layout, strings.Join(found[0].Links, " "))}
}

// attached tells of a gate whether it has all that it cannot be without.
func attached(gate bpf.Pinned) bool {
	for _, name := range bpf.LinkNames() {
		if !slices.Contains(gate.Links, name) {
			return false
		}
	}
	return true
}

// others are programs of somebody else on the same hooks: they may refuse what
// the gate allows.
func others(o Options) Check {
	c := Check{Name: "other programs", Level: OK, Detail: "none on the gate's hooks"}
	gate, err := bpf.OpenPinned(o.Pins)
	if err != nil {
		c.Level, c.Detail = Warn, err.Error()
		return c
	}
	defer gate.Close()
	root, err := o.root()
	if err != nil {
		c.Level, c.Detail = Fail, err.Error()
		return c
	}
	found, err := gate.OtherPrograms(root)
	if err != nil {
		c.Level, c.Detail = Warn, err.Error()
	} else if len(found) > 0 {
		c.Level, c.Detail, c.Cure = Warn, fmt.Sprintf("%v", found), "they can refuse what the gate allows and hide its errors: see bpftool cgroup tree"
	}
	return c
}

// docker asks the engine, and looks at each container for what no filter on
// its connects can hold.
func docker(ctx context.Context, o Options) []Check {
	api, err := client.NewClientWithOpts(client.WithHost(o.Docker), client.WithAPIVersionNegotiation())
	if err != nil {
		return []Check{{"docker", Fail, err.Error(), "name the engine's address with --docker"}}
	}
	defer api.Close()
	info, err := api.Info(ctx)
	if err != nil {
		return []Check{{"docker", Fail, err.Error(), "start the engine, or name its address with --docker"}}
	}
	checks := []Check{{Name: "docker", Level: OK, Detail: fmt.Sprintf("%s, API %s, cgroup driver %s, cgroup version %s", info.ServerVersion, api.ClientVersion(), info.CgroupDriver, info.CgroupVersion)}}
	list, err := api.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return append(checks, Check{"containers", Fail, err.Error(), ""})
	}
	pins, err := bpf.Pins(o.Pins)
	refuses := err == nil && bpf.RefusesPacketSockets(pins)
	modes := modes(o.Pins)
	for _, c := range list {
		checks = append(checks, containerChecks(ctx, api, c, o.Pins, refuses, modes[c.ID])...)
	}
	return checks
}

// modes are those of the containers that the pinned gate knows.
func modes(pins string) map[string]policy.Mode {
	gate, err := bpf.OpenPinned(pins)
	if err != nil {
		return nil // which the check of the gate tells
	}
	defer gate.Close()
	held, err := gate.Containers()
	if err != nil {
		return nil
	}
	out := map[string]policy.Mode{}
	for id, index := range held {
		if s, err := gate.State(index); err == nil {
			out[id] = s.Mode
		}
	}
	return out
}

// containerChecks tell what is open of a container. Of one that is not judged,
// what concerns the host.
func containerChecks(ctx context.Context, api *client.Client, s container.Summary, pins string, refuses bool, mode policy.Mode) []Check {
	name := "container " + strings.TrimPrefix(strings.Join(s.Names, ","), "/")
	open, err := enforcer.Openings(ctx, api, s.ID, pins, refuses)
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return []Check{{name, Warn, err.Error(), ""}}
	}
	var checks []Check
	for _, o := range open {
		if o.Host || mode != policy.ModeAllow {
			checks = append(checks, Check{name, Warn, o.What + ": " + o.Why, o.Cure})
		}
	}
	return checks
}
