package cut

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/enforcer/netns"
)

// namespace is a network namespace, held open.
type namespace struct {
	name string // such as net:[4026531840]
	file *os.File
}

// namespaces are those of every process in the cgroups, each once.
func namespaces(cgroups map[uint64]string) ([]*namespace, error) {
	var out []*namespace
	var errs []error
	seen := map[string]bool{}
	for _, dir := range cgroups {
		pids, err := processes(dir)
		errs = append(errs, err)
		for _, pid := range pids {
			s, err := namespaceOf(pid, seen)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
				continue // it has ended, and its sockets with it
			}
			if s != nil {
				out = append(out, s)
			}
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs...)
}

// processes reads who is in a cgroup.
func processes(dir string) ([]int, error) {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	// A cgroup of threads has no list: its processes are in the one above.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("processes of a cgroup: %w", err)
	}
	var out []int
	for field := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	return out, nil
}

// namespaceOf opens the namespace of a process, nil where it was seen before.
func namespaceOf(pid int, seen map[string]bool) (*namespace, error) {
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil || seen[name] {
		return nil, err
	}
	f, err := netns.Open(pid)
	if err != nil {
		return nil, err
	}
	seen[name] = true
	return &namespace{name, f}, nil
}

// open makes a sock_diag socket that belongs to the namespace. Close it.
func (s *namespace) open() (d *diag, err error) {
	err = netns.In(s.file, func() error {
		socket, err := nl.Subscribe(unix.NETLINK_SOCK_DIAG)
		if err == nil {
			d, err = newDiag(socket)
		}
		return err
	})
	return d, err
}
