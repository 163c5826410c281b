package main

import (
	"fmt"
	"runtime"

	"github.com/vishvananda/netns"
)

// namespace is a network namespace without a name: it is gone once nobody holds it.
type namespace struct{ netns.NsHandle }

// nowhere holds no namespace.
var nowhere = namespace{netns.None()}

func newNamespace() (namespace, error) {
	n := nowhere
	err := andBack(func() (err error) {
		n.NsHandle, err = netns.New()
		return err
	})
	if err != nil {
		return n, fmt.Errorf("make network namespace: %w", err)
	}
	return n, nil
}

// namespaceOf is that of a process.
func namespaceOf(pid int) (namespace, error) {
	h, err := netns.GetFromPid(pid)
	if err != nil {
		return namespace{h}, fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	return namespace{h}, nil
}

// do runs fn on a thread inside. Sockets that it makes belong there for ever.
func (n namespace) do(fn func() error) error {
	return andBack(func() error {
		if err := netns.Set(n.NsHandle); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return fn()
	})
}

// andBack brings the thread back from where fn takes it. It must not end instead:
// the workers that it started would be killed.
func andBack(fn func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		return fmt.Errorf("own network namespace: %w", err)
	}
	defer own.Close()
	defer func() {
		if err := netns.Set(own); err != nil {
			panic(fmt.Sprintf("leave network namespace: %v", err))
		}
	}()
	return fn()
}
