package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// The addresses of every link. The policy has nothing of refusedAddr, which is at
// the far end as well.
var (
	nearAddr    = netip.MustParseAddr("198.51.100.1")
	farAddr     = netip.MustParseAddr("198.51.100.2")
	refusedAddr = netip.MustParseAddr("198.51.100.3")
)

const (
	linkBits          = 24
	nearName, farName = "eth0", "bench0"
	// queued is more than what a small datagram takes of its receiver's memory.
	queued = 4096
	// patience is how many seconds nothing may arrive, where something must.
	patience = 30
)

// link is a container's link: a pair of devices, one in the namespace of a worker
// and one in a namespace that nobody else has, where this process, which no gate
// asks, receives what the worker sends.
type link struct {
	near, far     namespace
	index         int // of the far device
	udp, listener int
	stream        int // the accepted connection, 0 before
	ports         map[string]int
}

// newLink gives a process a link, with room for that many datagrams. It ends with
// the gate.
func (g *gate) newLink(pid, datagrams int) (l *link, err error) {
	l = &link{near: nowhere, far: nowhere}
	g.links = append(g.links, l)
	if l.near, err = namespaceOf(pid); err != nil {
		return l, err
	}
	if l.far, err = newNamespace(); err != nil {
		return l, err
	}
	if err := l.plug(pid); err != nil {
		return l, fmt.Errorf("link: %w", err)
	}
	return l, l.far.do(func() error { return l.listen(datagrams) })
}

func (l *link) plug(pid int) error {
	near, err := netlink.NewHandleAt(l.near.NsHandle)
	if err != nil {
		return err
	}
	defer near.Close()
	far, err := netlink.NewHandleAt(l.far.NsHandle)
	if err != nil {
		return err
	}
	defer far.Close()
	pair := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: nearName, PeerNamespace: netlink.NsPid(pid)}
	pair.Name = farName
	if err := far.LinkAdd(pair); err != nil {
		return fmt.Errorf("make veth: %w", err)
	}
	if l.index, err = raise(far, farName, farAddr, refusedAddr); err != nil {
		return err
	}
	_, err = raise(near, nearName, nearAddr)
	return err
}

// raise gives a device its addresses, and its index.
func raise(nl *netlink.Handle, name string, addrs ...netip.Addr) (int, error) {
	device, err := nl.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", name, err)
	}
	for _, a := range addrs {
		n := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(linkBits, a.BitLen())}
		if err := nl.AddrAdd(device, &netlink.Addr{IPNet: n}); err != nil {
			return 0, fmt.Errorf("add %s to %s: %w", a, name, err)
		}
	}
	if err := nl.LinkSetUp(device); err != nil {
		return 0, fmt.Errorf("raise %s: %w", name, err)
	}
	return device.Attrs().Index, nil
}

// listen is called in the far namespace.
func (l *link) listen(datagrams int) error {
	var udpPort, tcpPort int
	var err error
	if l.udp, udpPort, err = bound(unix.SOCK_DGRAM); err != nil {
		return err
	}
	if l.listener, tcpPort, err = bound(unix.SOCK_STREAM); err != nil {
		return err
	}
	l.ports = map[string]int{linkSendto: udpPort, linkUDP: udpPort, linkStream: tcpPort}
	return errors.Join(
		unix.SetsockoptInt(l.udp, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, datagrams*queued),
		unix.Listen(l.listener, 1),
		wait(l.udp), wait(l.listener),
	)
}

// wait lets the socket wait, but not for ever.
func wait(fd int) error {
	return errors.Join(
		unix.SetNonblock(fd, false),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: patience}),
	)
}

// over lets a worker do a turn over the link. All that it sends must arrive: a
// wall that loses some would seem cheap. Datagrams wait in the receiver's queue until
// the turn is over. Streams are read meanwhile, by another CPU, and what counts is how
// long they take to arrive: who writes to one may but fill a buffer.
func (l *link) over(t turn, ask func(turn) ([]float64, error)) ([]float64, error) {
	t.To = netip.AddrPortFrom(farAddr, uint16(l.ports[t.Kind]))
	if t.Kind != linkStream {
		times, err := ask(t)
		if err == nil {
			err = l.takeDatagrams(t.count())
		}
		return times, err
	}
	var took time.Duration
	var meanwhile errgroup.Group
	meanwhile.Go(func() (err error) {
		took, err = l.takeStream(t.count() * chunk)
		return err
	})
	_, err := ask(t)
	err = errors.Join(err, meanwhile.Wait())
	return []float64{float64(took) / float64(t.count())}, err
}

func (l *link) takeDatagrams(n int) error {
	b := make([]byte, small)
	for i := range n {
		if _, err := retry(func() (int, error) { return unix.Read(l.udp, b) }); err != nil {
			return fmt.Errorf("%d of %d datagrams arrived: %w", i, n, err)
		}
	}
	return nil
}

// takeStream tells how long it took from the first byte on.
func (l *link) takeStream(n int) (time.Duration, error) {
	if err := l.accept(); err != nil {
		return 0, fmt.Errorf("accept: %w", err)
	}
	var start time.Time
	b := make([]byte, 16*chunk)
	for left := n; left > 0; {
		got, err := retry(func() (int, error) { return unix.Read(l.stream, b[:min(left, len(b))]) })
		if err == nil && got == 0 {
			err = unix.ECONNRESET
		}
		if err != nil {
			return 0, fmt.Errorf("%d of %d bytes arrived: %w", n-left, n, err)
		}
		if left == n {
			start = time.Now()
		}
		left -= got
	}
	return time.Since(start), nil
}

// accept waits for the connection, once.
func (l *link) accept() (err error) {
	if l.stream > 0 {
		return nil
	}
	l.stream, err = retry(func() (int, error) {
		fd, _, err := unix.Accept4(l.listener, unix.SOCK_CLOEXEC)
		return fd, err
	})
	if err != nil {
		return err
	}
	return wait(l.stream)
}

// retry calls until no signal comes between.
func retry(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// close ends the link: the devices go with the far namespace.
func (l *link) close() error {
	var errs []error
	for _, fd := range []int{l.udp, l.listener, l.stream} {
		if fd > 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	for _, n := range []*namespace{&l.near, &l.far} {
		if n.IsOpen() {
			errs = append(errs, n.Close())
		}
	}
	return errors.Join(errs...)
}
