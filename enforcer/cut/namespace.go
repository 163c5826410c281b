package cut

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
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
	path := fmt.Sprintf("/proc/%d/ns/net", pid)
	name, err := os.Readlink(path)
	if err != nil || seen[name] {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	seen[name] = true
	return &namespace{name, f}, nil
}

// open makes a sock_diag socket that belongs to the namespace. Close it.
func (s *namespace) open() (d *diag, err error) {
	apart(func() {
		if err = unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("enter: %w", err)
			return
		}
		var socket *nl.NetlinkSocket
		if socket, err = nl.Subscribe(unix.NETLINK_SOCK_DIAG); err == nil {
			d, err = newDiag(socket)
		}
	})
	return d, err
}

// apart runs fn on a thread that ends with it, whatever fn did to it.
func apart(fn func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread never ends, and /proc shows the process as what
			// it is. As long as it is ours, the next one is another.
			defer runtime.UnlockOSThread()
			apart(fn)
			return
		}
		fn() // not unlocked: so the thread ends
	})
	wg.Wait()
}
