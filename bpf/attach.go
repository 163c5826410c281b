package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

const linksDir = "links"

// hook is a program that is attached.
type hook struct {
	name   string
	prog   *ebpf.Program
	attach ebpf.AttachType
	// cgroup: attached to the cgroup root; else a tracepoint.
	cgroup bool
	// optional: a gate without it is attached all the same.
	optional bool
}

// hooks are in the order of attaching: births before decisions, and the notes
// of UDP peers and of who answers before the programs that ask for them.
func (g *Gate) hooks() []hook {
	o := &g.objects
	return []hook{
		{"cgroup_mkdir", o.CgroupMkdir, ebpf.AttachTraceRawTp, false, false},
		{"cgroup_rmdir", o.CgroupRmdir, ebpf.AttachTraceRawTp, false, false},
		{"recvmsg_v4", o.RecvmsgV4, ebpf.AttachCGroupUDP4Recvmsg, true, false},
		{"recvmsg_v6", o.RecvmsgV6, ebpf.AttachCGroupUDP6Recvmsg, true, false},
		{"sock_create", o.SockCreate, ebpf.AttachCGroupInetSockCreate, true, false},
		{"setsockopt", o.Setsockopt, ebpf.AttachCGroupSetsockopt, true, false},
		{socketCreate, o.SocketCreate, ebpf.AttachModifyReturn, false, true},
		{"post_bind_v4", o.PostBindV4, ebpf.AttachCGroupInet4PostBind, true, false},
		{"post_bind_v6", o.PostBindV6, ebpf.AttachCGroupInet6PostBind, true, false},
		{"packet", o.Packet, ebpf.AttachCGroupInetEgress, true, false},
		{"connect_v4", o.ConnectV4, ebpf.AttachCGroupInet4Connect, true, false},
		{"connect_v6", o.ConnectV6, ebpf.AttachCGroupInet6Connect, true, false},
		{"sendmsg_v4", o.SendmsgV4, ebpf.AttachCGroupUDP4Sendmsg, true, false},
		{"sendmsg_v6", o.SendmsgV6, ebpf.AttachCGroupUDP6Sendmsg, true, false},
	}
}

// Attach puts the programs to work: it makes the pinned links, or puts these
// programs in the place of the ones that the links have, so that at every moment
// one of the two decides. Then it removes every other layout.
func (g *Gate) Attach() error {
	unlock, err := lockDir(g.o.PinDir)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	defer unlock()
	root, err := os.Open(g.o.CgroupRoot)
	if err != nil {
		return fmt.Errorf("attach: %w: %w", ErrCgroup, err)
	}
	defer root.Close()
	id, err := CgroupID(g.o.CgroupRoot)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	for _, h := range g.hooks() {
		if h.optional && g.lacksSocketCreate != nil {
			continue
		}
		err := g.attachHook(h, root, id)
		if err != nil && h.optional {
			g.lacksSocketCreate = err
			continue
		}
		if err != nil {
			return fmt.Errorf("attach %s to %s: %w", h.name, g.o.CgroupRoot, err)
		}
	}
	return g.removeOtherLayouts()
}

func (g *Gate) attachHook(h hook, root *os.File, cgroupID uint64) error {
	pin := filepath.Join(g.dir, linksDir, h.name)
	keep := keepLink
	if h.cgroup {
		keep = func(pin string, prog *ebpf.Program) (bool, error) { return updateLink(pin, prog, cgroupID) }
	}
	if done, err := keep(pin, h.prog); done || err != nil {
		return err
	}
	l, err := newLink(h, root)
	if err != nil {
		return err
	}
	defer l.Close()
	// The new link is at work already; in the pin's place it lets go the old.
	return pinInPlace(l, pin)
}

// pinInPlace pins, and takes the place of what is pinned there.
func pinInPlace(what interface{ Pin(string) error }, pin string) error {
	next := pin + aside
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := what.Pin(next); err != nil {
		return err
	}
	return os.Rename(next, pin)
}

// updateLink gives a pinned link of that cgroup another program. It reports
// false where there is no such link: the cgroup may have been removed.
func updateLink(pin string, prog *ebpf.Program, cgroupID uint64) (bool, error) {
	return withPinnedLink(pin, func(l link.Link, info *link.Info) (bool, error) {
		if cg := info.Cgroup(); cg == nil || cg.CgroupId != cgroupID {
			return false, nil
		}
		return true, l.Update(prog)
	})
}

// keepLink reports whether the pinned link has that very program: before 6.10 a
// tracepoint takes a program once.
func keepLink(pin string, prog *ebpf.Program) (bool, error) {
	return withPinnedLink(pin, func(_ link.Link, has *link.Info) (bool, error) {
		wants, err := prog.Info()
		if err != nil {
			return false, err
		}
		id, ok := wants.ID()
		return ok && has.Program == id, nil
	})
}

// withPinnedLink reports false where there is no pinned link, else what fn says
// of it.
func withPinnedLink(pin string, fn func(link.Link, *link.Info) (bool, error)) (bool, error) {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return false, err
	}
	return fn(l, info)
}

func newLink(h hook, root *os.File) (link.Link, error) {
	if !h.cgroup {
		return link.AttachTracing(link.TracingOptions{Program: h.prog})
	}
	return link.AttachRawLink(link.RawLinkOptions{
		Target:  int(root.Fd()),
		Program: h.prog,
		Attach:  h.attach,
	})
}

// Attached reports whether every link of this layout is pinned and at work, but
// for that of a program which this kernel does not take.
func (g *Gate) Attached() bool {
	id, err := CgroupID(g.o.CgroupRoot)
	if err != nil {
		return false
	}
	for _, h := range g.hooks() {
		if h.optional && g.lacksSocketCreate != nil {
			continue
		}
		l, err := link.LoadPinnedLink(filepath.Join(g.dir, linksDir, h.name), nil)
		if err != nil {
			return false
		}
		info, err := l.Info()
		_ = l.Close()
		if err != nil {
			return false
		}
		if cg := info.Cgroup(); h.cgroup && (cg == nil || cg.CgroupId != id) {
			return false
		}
	}
	return true
}
