package world

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"golang.org/x/sys/unix"
)

// Tap shows every frame in the host's namespace on its way: to the host itself,
// to another container, or out into the world.
type Tap struct {
	w     *World
	fd    int
	see   func(frame []byte)
	stop  chan struct{}
	done  chan struct{}
	seen  atomic.Int64
	veths map[int]bool
}

const (
	tapPort   = 4
	tapText   = "tap marker"
	tapFrames = 2048
)

// Tap calls see, from one goroutine, until the test ends. What comes out of a
// container is shown where it goes on, such as on the bridge: not on the
// container's own link, where it may still be dropped.
func (w *World) Tap(t testing.TB, see func(frame []byte)) *Tap {
	t.Helper()
	p := &Tap{w: w, see: see, stop: make(chan struct{}), done: make(chan struct{}), veths: map[int]bool{}}
	if err := w.Host.Do(p.open); err != nil {
		t.Fatalf("tap: %v", err)
	}
	go p.read()
	t.Cleanup(func() {
		close(p.stop)
		<-p.done
		_ = unix.Close(p.fd)
	})
	return p
}

func (p *Tap) open() (err error) {
	p.fd, err = packetSocket(unix.SOCK_RAW, 0, func(int) error { return nil })
	return err
}

func (p *Tap) read() {
	defer close(p.done)
	for buf := make([]byte, tapFrames); ; {
		select {
		case <-p.stop:
			return
		default:
		}
		n, from, err := unix.Recvfrom(p.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN) {
			continue
		}
		if err != nil {
			return
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		switch {
		case !ok:
		case bytes.Contains(buf[:n], []byte(tapText)):
			p.seen.Add(1)
		case ll.Pkttype == unix.PACKET_OUTGOING || !p.container(ll.Ifindex):
			p.see(buf[:n])
		}
	}
}

// container says that a device is the host's end of a container's link. One
// that is gone was such.
func (p *Tap) container(index int) bool {
	known, ok := p.veths[index]
	if !ok {
		link, err := p.w.Host.nl.LinkByIndex(index)
		known = err != nil || strings.HasPrefix(link.Attrs().Name, "veth")
		p.veths[index] = known
	}
	return known
}

// Sync returns when everything that was sent before the call has been shown.
// It fails the test when frames were lost on the way.
func (p *Tap) Sync(t testing.TB) {
	t.Helper()
	to := netip.AddrPortFrom(WorldAddr4, tapPort)
	before := p.seen.Load()
	testutil.Eventually(t, "the tap sees its marker", func() error {
		if err := p.w.Host.Do(func() error { return sendText(to, tapText) }); err != nil {
			return err
		}
		if p.seen.Load() == before {
			return errors.New("not seen")
		}
		return nil
	})
	st, err := unix.GetsockoptTpacketStats(p.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil || st.Drops != 0 {
		t.Fatalf("the tap lost frames: %+v, %v", st, err)
	}
}
