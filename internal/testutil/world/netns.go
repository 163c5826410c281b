package world

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Namespace is a network namespace with a name below /run/netns, as iproute2
// knows it.
type Namespace struct {
	Name string
	fd   netns.NsHandle
	nl   *netlink.Handle
}

// newNamespace replaces the namespace of that name.
func newNamespace(name string) (*Namespace, error) {
	if err := deleteNamespace(name); err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("own network namespace: %w", err)
	}
	defer own.Close()
	fd, err := netns.NewNamed(name) // moves this thread there
	if back := netns.Set(own); back != nil {
		// A thread that cannot come back must not run anything else.
		panic(fmt.Sprintf("leave namespace %s: %v", name, back))
	}
	if err != nil {
		return nil, fmt.Errorf("make namespace %s: %w", name, err)
	}
	nl, err := netlink.NewHandleAt(fd)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("netlink in %s: %w", name, err), fd.Close())
	}
	return &Namespace{name, fd, nl}, nil
}

func deleteNamespace(name string) error {
	if err := netns.DeleteNamed(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete namespace %s: %w", name, err)
	}
	return nil
}

// Path is the file that names the namespace to nsenter and the like.
func (n *Namespace) Path() string { return filepath.Join("/run/netns", n.Name) }

// Do runs fn on a thread inside the namespace. Sockets made by fn itself
// belong there for ever; goroutines that fn starts do not run there.
func (n *Namespace) Do(fn func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		return fmt.Errorf("own network namespace: %w", err)
	}
	defer own.Close()
	if err := netns.Set(n.fd); err != nil {
		return fmt.Errorf("enter namespace %s: %w", n.Name, err)
	}
	defer func() {
		if err := netns.Set(own); err != nil {
			panic(fmt.Sprintf("leave namespace %s: %v", n.Name, err))
		}
	}()
	return fn()
}

// Start starts the command inside the namespace, in the filesystem and cgroup
// that it would have had.
func (n *Namespace) Start(c *exec.Cmd) error { return n.Do(c.Start) }

func (n *Namespace) close() error {
	n.nl.Close()
	return errors.Join(n.fd.Close(), deleteNamespace(n.Name))
}
