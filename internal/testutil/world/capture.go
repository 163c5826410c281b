package world

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"golang.org/x/sys/unix"
)

// Key is what a capture tells packets apart by. Port is 0 where the protocol
// has none.
type Key struct {
	Proto uint8
	Dst   netip.AddrPort
}

// String is for test output.
func (k Key) String() string { return fmt.Sprintf("proto %d to %s", k.Proto, k.Dst) }

// Capture counts the packets that arrive in the world, a bare SYN included.
type Capture struct {
	w       *World
	fd      int
	stop    chan struct{}
	done    chan struct{}
	markers atomic.Uint32

	mu   sync.Mutex
	seen map[Key]int
}

// Capture counts, until the test ends, what comes for the prefixes, or for any
// destination when none is given. The kernel selects, so that traffic to other
// destinations, however much, cannot crowd them out. Uplinks that are made later
// are not watched.
func (w *World) Capture(t testing.TB, dsts ...netip.Prefix) *Capture {
	t.Helper()
	c := &Capture{w: w, stop: make(chan struct{}), done: make(chan struct{}), seen: map[Key]int{}}
	if err := w.World.Do(func() error { return c.open(dsts) }); err != nil {
		t.Fatalf("capture: %v", err)
	}
	go c.read()
	t.Cleanup(func() {
		close(c.stop)
		<-c.done
		_ = unix.Close(c.fd)
	})
	return c
}

func (c *Capture) open(dsts []netip.Prefix) (err error) {
	index := 0
	if !c.w.uplinks {
		ifi, err := net.InterfaceByName(worldLink)
		if err != nil {
			return err
		}
		index = ifi.Index
	}
	c.fd, err = packetSocket(unix.SOCK_DGRAM, index, func(fd int) error { return setFilter(fd, dsts) })
	return err
}

// packetSocket receives what passes a device, or any for 0, once it is prepared.
func packetSocket(kind, ifindex int, prepare func(fd int) error) (int, error) {
	// Protocol 0 receives nothing until bind.
	fd, err := unix.Socket(unix.AF_PACKET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("packet socket: %w", err)
	}
	// A timeout is how the reader notices the end.
	tv := unix.NsecToTimeval(int64(readPause))
	err = errors.Join(
		prepare(fd),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: ifindex}))
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// Sync returns when all that was sent before the call has been counted. It
// fails the test when packets were lost on the way to the counter.
func (c *Capture) Sync(t testing.TB) {
	t.Helper()
	port := uint16(c.markers.Add(1))
	marker := Key{unix.IPPROTO_UDP, netip.AddrPortFrom(WorldAddr4, port)}
	testutil.Eventually(t, "the capture sees its marker", func() error {
		if err := c.w.Host.Do(func() error { return sendText(marker.Dst, "marker") }); err != nil {
			return err
		}
		if c.counts()[marker] == 0 {
			return errors.New("not seen")
		}
		return nil
	})
	st, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil || st.Drops != 0 {
		t.Fatalf("capture lost packets: %+v, %v", st, err)
	}
}

// Seen waits as Sync does and returns the counts by destination, without the
// link's own addresses and without ICMPv6, which every link speaks.
func (c *Capture) Seen(t testing.TB) map[Key]int {
	t.Helper()
	c.Sync(t)
	seen := c.counts()
	maps.DeleteFunc(seen, func(k Key, _ int) bool {
		a := k.Dst.Addr()
		return a == WorldAddr4 || a == WorldAddr6 || a.IsMulticast() ||
			a.IsLinkLocalUnicast() && k.Proto == unix.IPPROTO_ICMPV6
	})
	return seen
}

// Count is the number of packets so far to an address and port, of any
// protocol; port 0 means every port.
func (c *Capture) Count(t testing.TB, dst netip.Addr, port uint16) int {
	t.Helper()
	n := 0
	for k, count := range c.Seen(t) {
		if k.Dst.Addr() == dst && (port == 0 || k.Dst.Port() == port) {
			n += count
		}
	}
	return n
}

func (c *Capture) counts() map[Key]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.seen)
}

func sendText(to netip.AddrPort, text string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, []byte(text), 0, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
}

func htons(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
