// Package netns enters the network namespaces of containers, and tells what
// devices are there.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// In runs fn on a thread of its own inside a namespace. What fn makes there,
// such as a socket, stays there; goroutines that it starts do not run there.
func In(ns *os.File, fn func() error) (err error) {
	apart(func() {
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("enter %s: %w", ns.Name(), err)
			return
		}
		err = fn()
	})
	return err
}

// Open opens the namespace of a process. The error is fs.ErrNotExist where the
// process has ended.
func Open(pid int) (*os.File, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if errors.Is(err, unix.ESRCH) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	return f, nil
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
