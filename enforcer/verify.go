package enforcer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/docker/client"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/policy"
)

// uncovered names what the gate does not see of a container, for the operator.
func uncovered(d detail, raw, refusesPackets bool) []string {
	var open []string
	if raw {
		open = append(open, "egress.raw=allow: raw, SCTP and UDP-Lite sockets are kept by the label; their packets are judged")
	}
	if d.HostNet {
		open = append(open, "host network: shares every interface and abstract socket of the host")
	}
	if d.Privileged {
		open = append(open, "privileged: its root can leave its cgroup or detach the gate")
	}
	if d.DockerSock {
		open = append(open, "docker.sock: can start containers without a label")
	}
	if (d.Privileged || hasNetRaw(d)) && (raw || !refusesPackets) {
		open = append(open, "packet sockets: not judged, and nothing refuses them here; drop NET_RAW")
	}
	return open
}

// hasNetRaw tells whether the container holds NET_RAW, one of Docker's
// default capabilities.
func hasNetRaw(d detail) bool {
	is := func(caps []string, want string) bool {
		for _, c := range caps {
			if c = strings.TrimPrefix(strings.ToUpper(c), "CAP_"); c == want || c == "ALL" {
				return true
			}
		}
		return false
	}
	return is(d.CapAdd, "NET_RAW") || !is(d.CapDrop, "NET_RAW")
}

// cgroupOf is the path of a process in the v2 hierarchy, below its root.
func cgroupOf(pid int) (string, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", fmt.Errorf("cgroup of process %d: %w", pid, err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if path, ok := strings.CutPrefix(lines.Text(), "0::"); ok {
			return path, nil
		}
	}
	return "", fmt.Errorf("process %d is in no cgroup of version 2", pid)
}

// errNoContainerCgroup is a container whose processes are in the root of the
// hierarchy, where the gate cannot tell them from the host's.
var errNoContainerCgroup = errors.New("the container has no cgroup of its own")

// Verify makes the gate know the cgroups of a running container: those that a
// birth should have told, and those that stood before the gate did.
func (r *registry) Verify(root, id string, pid int) error {
	path, err := cgroupOf(pid)
	if err != nil {
		return err
	}
	if path == "/" || strings.HasPrefix(path, "/..") {
		return errNoContainerCgroup
	}
	own := filepath.Join(root, containerCgroup(path, id))
	tree, err := cgroupTree(own)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.containers[id]
	if !ok {
		return nil
	}
	c.cgroup = own
	for cg := range tree {
		if err := r.kernel.PutCgroup(cg, c.Index); err != nil {
			return fmt.Errorf("container %s: %w", c.Name, err)
		}
	}
	return nil
}

// containerCgroup climbs from the cgroup of a container's first process to the
// container's own: an init may have moved below it. Docker names it by the ID,
// or docker-<ID>.scope under systemd; without such a name it is the process's.
func containerCgroup(path, id string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if p == id || p == "docker-"+id+".scope" {
			return strings.Join(parts[:i+1], "/")
		}
	}
	return path
}

// cgroupTree gives the folders of a cgroup and of all below it, by their ids.
func cgroupTree(path string) (map[uint64]string, error) {
	tree := map[uint64]string{}
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			if errors.Is(err, fs.ErrNotExist) && p != path {
				return nil
			}
			return err
		}
		id, err := bpf.CgroupID(p)
		if errors.Is(err, fs.ErrNotExist) && p != path {
			return nil
		}
		tree[id] = p
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cgroup %s: %w", path, err)
	}
	return tree, nil
}

// Uncovered names what the gate does not see of a container; refusesPackets is
// whether it refuses packet sockets on this host.
func Uncovered(ctx context.Context, api *client.Client, id string, refusesPackets bool) ([]string, error) {
	d, err := dockerEngine{api}.Inspect(ctx, id)
	if err != nil {
		return nil, err
	}
	wish, _ := parseLabels(d.Labels, d.ImageLabels, policy.ModeBlock)
	return uncovered(*d.Detail, wish.Raw, refusesPackets), nil
}
