package netns

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace as it was when it was looked at.
type Namespace struct {
	// Host is true for the one that this process is in.
	Host bool
	// Devices are sorted by index.
	Devices []Device
}

// Kinds of devices that rtnetlink has no word for. Others have the kernel's,
// such as veth, bridge, macvlan, ipvlan and tun.
const (
	Loopback = "loopback"
	Physical = "physical"
)

// Device is one device of a namespace.
type Device struct {
	Name  string
	Index int
	Kind  string
	// Up is false for one that sends nothing until it is raised.
	Up bool
	// Peer is the index of a veth's other end, if that is in the namespace that
	// this process is in; else 0.
	Peer int
}

// Of looks at the namespace of a process. The error is fs.ErrNotExist where the
// process has ended.
func Of(pid int) (Namespace, error) {
	f, err := Open(pid)
	if err != nil {
		return Namespace{}, err
	}
	defer f.Close()
	return Look(f)
}

// Look looks at a namespace that is held open.
func Look(ns *os.File) (Namespace, error) {
	own, err := Open(os.Getpid())
	if err != nil {
		return Namespace{}, err
	}
	defer own.Close()
	n := Namespace{}
	if n.Host, err = same(ns, own); err != nil {
		return n, err
	}
	err = In(ns, func() error {
		n.Devices, err = n.devices(own)
		return err
	})
	if err != nil {
		return n, fmt.Errorf("devices of %s: %w", ns.Name(), err)
	}
	return n, nil
}

func same(a, b *os.File) (bool, error) {
	ai, errA := a.Stat()
	bi, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(ai, bi), errors.Join(errA, errB)
}

// attempts bounds how often a list is read anew that changed while it was read.
const attempts = 8

// Links lists the links of a handle's namespace, anew where they changed meanwhile.
func Links(h *netlink.Handle) (links []netlink.Link, err error) {
	for range attempts {
		if links, err = h.LinkList(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return links, err
}

// devices are those of the namespace, in which the thread is.
func (n Namespace) devices(own *os.File) ([]Device, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	links, err := Links(h)
	if err != nil {
		return nil, err
	}
	// After the list: to name a peer's namespace in it gave that its number.
	number, err := h.GetNetNsIdByFd(int(own.Fd()))
	if err != nil {
		return nil, fmt.Errorf("number of the own namespace: %w", err)
	}
	out := make([]Device, 0, len(links))
	for _, l := range links {
		out = append(out, n.device(l, number))
	}
	slices.SortFunc(out, func(a, b Device) int { return cmp.Compare(a.Index, b.Index) })
	return out, nil
}

// device is a link, seen from the namespace, which calls this process's own
// number. Below 0 it has none, as where a peer is in the namespace itself.
func (n Namespace) device(l netlink.Link, number int) Device {
	a := l.Attrs()
	d := Device{Name: a.Name, Index: a.Index, Kind: l.Type(), Up: a.Flags&net.FlagUp != 0}
	beside := a.NetNsID < 0
	switch {
	case a.Flags&net.FlagLoopback != 0:
		d.Kind = Loopback
	case d.Kind == "device": // the library's word where the kernel says nothing
		d.Kind = Physical
	case d.Kind == "tuntap": // the library's word for the kernel's
		d.Kind = "tun"
	case d.Kind == "veth" && (beside && n.Host || !beside && a.NetNsID == number):
		d.Peer = a.ParentIndex
	}
	return d
}
