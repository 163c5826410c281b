package enforcer

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/egresswarden/egresswarden/bpf"
)

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
// birth should have told, and those that stood before the gate did. What keeps
// it from that is noted, but fs.ErrNotExist: the container has ended.
func (r *registry) Verify(root, id string, pid int) error {
	err := r.verify(root, id, pid)
	r.note(id, err)
	return err
}

// note keeps why a container is not covered, nil if it is.
func (r *registry) note(id string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.containers[id]
	if !ok {
		return
	}
	c.Lost = ""
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.Lost = err.Error()
	}
}

func (r *registry) verify(root, id string, pid int) error {
	path, err := cgroupOf(pid)
	if err != nil {
		return err
	}
	if path == "/" || strings.HasPrefix(path, "/..") {
		return errNoContainerCgroup
	}
	if err := r.elsewhere(path, id); err != nil {
		return err
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
	for cg := range r.own(c, tree) {
		if err := r.kernel.PutCgroup(cg, c.Index); err != nil {
			return fmt.Errorf("container %s: %w", c.Name, err)
		}
	}
	return nil
}

// elsewhere is the error of a first process that has moved into the cgroup of
// another container, which must not become this one's.
func (r *registry) elsewhere(path, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var in *Container
	for part := range strings.SplitSeq(path, "/") {
		name := strings.TrimSuffix(strings.TrimPrefix(part, "docker-"), ".scope")
		if name == id {
			return nil
		}
		if c, ok := r.containers[name]; ok {
			in = c
		}
	}
	if in != nil {
		return fmt.Errorf("its first process is in the cgroup of container %s", in.Name)
	}
	return nil
}

// own leaves out of a container's tree what another container was seen to have
// there, as by --cgroup-parent; r.mu is held.
func (r *registry) own(c *Container, tree map[uint64]string) map[uint64]string {
	for _, other := range r.containers {
		if other == c || other.cgroup == c.cgroup || !within(other.cgroup, c.cgroup) {
			continue
		}
		maps.DeleteFunc(tree, func(_ uint64, path string) bool { return within(path, other.cgroup) })
	}
	return tree
}

// tree gives what is a container's own of its cgroup and those below.
func (r *registry) tree(c Container) (map[uint64]string, error) {
	tree, err := cgroupTree(c.cgroup)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known, ok := r.containers[c.ID]; ok {
		return r.own(known, tree), nil
	}
	return tree, nil
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
