package enforcer

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
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
