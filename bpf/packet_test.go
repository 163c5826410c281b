package bpf

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/internal/testutil/world"
	"github.com/egresswarden/egresswarden/policy"
)

// Destinations of the tests of packets: the policy allows one in each family.
var (
	allowed4 = netip.MustParseAddr("203.0.113.1")
	allowed6 = netip.MustParseAddr("2001:db8:a::1")
	refused4 = netip.MustParseAddr("203.0.113.66")
	refused6 = netip.MustParseAddr("2001:db8:d::66")
	hop4     = netip.MustParseAddr("198.51.100.9")
)

func packetTable() *policy.Table {
	// The link's own end is where a capture sends its markers to.
	return table(allowed4.String()+"/32", allowed6.String()+"/128", world.WorldAddr4.String()+"/32")
}

// way gets a packet out by a socket that is made while learning. It returns what
// sends.
type way struct {
	name string
	// dst is where a packet shows up, in the capture and in the event; it is told
	// from others by its protocol.
	dst   netip.Addr
	proto policy.Proto
	// rule is the one of the event.
	rule uint32
	// quiet: the kernel tells the sender nothing.
	quiet bool
	make  func() (send func() error, err error)
}

var ways = []way{
	{"a raw socket with a header of its own", refused4, policy.ProtoUDP, 0, false, func() (func() error, error) {
		return rawSocket(unix.AF_INET, unix.IPPROTO_RAW, datagram4(hop4, refused4, 443), refused4)
	}},
	{"a raw socket of ICMP", refused4, policy.ProtoICMP, 0, false, func() (func() error, error) {
		return rawSocket(unix.AF_INET, unix.IPPROTO_ICMP, echo(8), refused4)
	}},
	{"a raw socket of an unknown protocol", refused4, policy.ProtoOther, 0, false, func() (func() error, error) {
		return rawSocket(unix.AF_INET, 200, []byte("x"), refused4)
	}},
	{"a raw socket of IPv6", refused6, policy.ProtoOther, 0, true, func() (func() error, error) {
		return rawSocket(unix.AF_INET6, 200, []byte("x"), refused6)
	}},
	{"a ping", refused4, policy.ProtoICMP, 0, false, func() (func() error, error) {
		return sender(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP, echo(8), refused4, 0, nil)
	}},
	{"a ping of IPv6", refused6, policy.ProtoICMP, 0, true, func() (func() error, error) {
		return sender(unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6, echo(128), refused6, 0, nil)
	}},
	{"a neighbour's question of a process", refused6, policy.ProtoICMP, 0, true, func() (func() error, error) {
		return rawSocket(unix.AF_INET6, unix.IPPROTO_ICMPV6, echo(135), refused6)
	}},
	{"UDP connected before", refused4, policy.ProtoUDP, 0, false, func() (func() error, error) {
		return connected(unix.AF_INET, unix.SOCK_DGRAM, 0, refused4)
	}},
	{"UDP connected before, IPv6", refused6, policy.ProtoUDP, 0, true, func() (func() error, error) {
		return connected(unix.AF_INET6, unix.SOCK_DGRAM, 0, refused6)
	}},
	{"TCP connected before", refused4, policy.ProtoTCP, 0, true, func() (func() error, error) {
		return connected(unix.AF_INET, unix.SOCK_STREAM, 0, refused4)
	}},
	{"TCP connected before, IPv6", refused6, policy.ProtoTCP, 0, true, func() (func() error, error) {
		return connected(unix.AF_INET6, unix.SOCK_STREAM, 0, refused6)
	}},
	{"TCP bound and connected before", refused4, policy.ProtoTCP, 0, true, func() (func() error, error) {
		return bound(unix.IPPROTO_TCP)
	}},
	{"MPTCP bound and connected before", refused4, policy.ProtoTCP, 0, true, func() (func() error, error) {
		return bound(protoMPTCP)
	}},
	{"a source route with a message", hop4, policy.ProtoUDP, policy.RuleOption, false, func() (func() error, error) {
		return sender(unix.AF_INET, unix.SOCK_DGRAM, 0, []byte("x"), allowed4, 443, looseRouteMessage())
	}},
	{"destination options with a message", allowed6, policy.ProtoOther, policy.RuleOption, true, func() (func() error, error) {
		return sender(unix.AF_INET6, unix.SOCK_DGRAM, 0, []byte("x"), allowed6, 443, []byte(destinationMessage))
	}},
	{"a source route set before", hop4, policy.ProtoUDP, policy.RuleOption, false, func() (func() error, error) {
		return routed(unix.SOCK_DGRAM)
	}},
	{"UDP-Lite", refused4, policy.ProtoOther, 0, false, func() (func() error, error) {
		return connected(unix.AF_INET, unix.SOCK_DGRAM, protoUDPLite, refused4)
	}},
}

// destinationMessage brings destination options along.
const destinationMessage = "\x18\x00\x00\x00\x00\x00\x00\x00\x29\x00\x00\x00\x3b\x00\x00\x00" + padding

// looseRouteMessage brings a source route by hop4 along.
func looseRouteMessage() []byte {
	h := hop4.As4()
	option := append([]byte{0x83, 7, 4}, h[0], h[1], h[2], h[3], 1)
	b := make([]byte, unix.CmsgSpace(len(option)))
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(len(option))))
	binary.NativeEndian.PutUint32(b[8:], unix.SOL_IP)
	binary.NativeEndian.PutUint32(b[12:], unix.IP_RETOPTS)
	copy(b[unix.CmsgLen(0):], option)
	return b
}

func sockaddr(a netip.Addr, port int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: port}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: port}
}

// keep holds the sockets of the ways until the test ends.
var keep []int

func makeSocket(family, kind, proto int) (int, error) {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, proto)
	if err == nil {
		keep = append(keep, fd)
	}
	return fd, err
}

func sender(family, kind, proto int, data []byte, to netip.Addr, port int, control []byte) (func() error, error) {
	fd, err := makeSocket(family, kind, proto)
	return func() error { return unix.Sendmsg(fd, data, control, sockaddr(to, port), 0) }, err
}

func rawSocket(family, proto int, data []byte, to netip.Addr) (func() error, error) {
	return sender(family, unix.SOCK_RAW, proto, data, to, 0, nil)
}

func connected(family, kind, proto int, to netip.Addr) (func() error, error) {
	fd, err := makeSocket(family, kind, proto)
	if err != nil {
		return nil, err
	}
	err = unix.Connect(fd, sockaddr(to, 443))
	return func() error { _, err := unix.Write(fd, []byte("x")); return err }, err
}

// bound is connected from a port that it was bound to, as a listener is.
func bound(proto int) (func() error, error) {
	fd, err := makeSocket(unix.AF_INET, unix.SOCK_STREAM, proto)
	if err != nil {
		return nil, err
	}
	err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{}), unix.Connect(fd, sockaddr(refused4, 443)))
	return func() error { _, err := unix.Write(fd, []byte("x")); return err }, err
}

// routed is connected by way of hop4.
func routed(kind int) (func() error, error) {
	fd, err := makeSocket(unix.AF_INET, kind, 0)
	if err != nil {
		return nil, err
	}
	h := hop4.As4()
	if err := unix.SetsockoptString(fd, unix.SOL_IP, unix.IP_OPTIONS, "\x83\x07\x04"+string(h[:])+"\x01"); err != nil {
		return nil, err
	}
	err = unix.Connect(fd, sockaddr(allowed4, 443))
	return func() error { _, err := unix.Write(fd, []byte("x")); return err }, err
}

// echo is an ICMP message of eight bytes and more, whose sum the kernel may write.
func echo(kind byte) []byte {
	b := []byte{kind, 0, 0, 0, 0, 1, 0, 1, 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'x'}
	if kind == 8 {
		sum := uint32(0)
		for i := 0; i < len(b); i += 2 {
			sum += uint32(b[i])<<8 | uint32(b[i+1])
		}
		binary.BigEndian.PutUint16(b[2:], ^uint16(sum+sum>>16))
	}
	return b
}

// datagram4 is a UDP datagram with an IP header.
func datagram4(src, dst netip.Addr, port uint16) []byte {
	b := make([]byte, 29)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
	s, d := src.As4(), dst.As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	binary.BigEndian.PutUint16(b[20:], port)
	binary.BigEndian.PutUint16(b[22:], port)
	binary.BigEndian.PutUint16(b[24:], 9)
	return b
}

// TestNothingPassesThatNoHookJudged holds that each way works while learning, and
// that nothing of it arrives once the container is blocked.
func TestNothingPassesThatNoHookJudged(t *testing.T) {
	w := world.New(t)
	f := newFixture(t, nil)
	f.putPolicy(t, 1, packetTable(), 1)
	f.manage(t, 1, State{Mode: policy.ModeLearn, Slot: 1})
	t.Cleanup(closeKept)
	seen := w.Capture(t)
	for _, way := range ways {
		f.putState(t, 1, State{Mode: policy.ModeLearn, Slot: 1})
		f.newWindow(t)
		var send func() error
		err := w.Host.Do(func() (err error) { send, err = way.make(); return err })
		if unknownHere(err) {
			t.Logf("%s: this kernel does not know it", way.name)
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", way.name, err)
		}
		before := arrived(t, seen, way)
		if err := send(); err != nil {
			t.Fatalf("%s while learning: %v", way.name, err)
		}
		after := arrived(t, seen, way)
		if after <= before {
			t.Errorf("%s: nothing arrives while learning, so that the test shows nothing", way.name)
		}
		f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
		after = arrived(t, seen, way) // the kernel may have sent again meanwhile
		err = send()
		if errors.Is(err, unix.ECONNREFUSED) {
			err = send() // that was the answer to the first
		}
		if n := arrived(t, seen, way); n != after {
			t.Errorf("%s: %d packets arrived (%v)", way.name, n-after, err)
		}
		if !way.quiet && !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: the sender is told %v, want EPERM", way.name, err)
		}
		f.wantPacketEvent(t, way)
	}
	closeKept() // else the kernel goes on trying connections, and counts them
	f.drain(t)
	l := newLedger()
	l.add(f.drained)
	l.settle(t, f.Gate)
	l.check(t, f.Gate, 1)
}

// closeKept closes connections without a farewell that would be tried again.
func closeKept() {
	for _, fd := range keep {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		_ = unix.Close(fd)
	}
	keep = nil
}

// arrived counts what came to a way's destination.
func arrived(t *testing.T, c *world.Capture, w way) int {
	t.Helper()
	n := 0
	for k, count := range c.Seen(t) {
		if k.Dst.Addr() == w.dst {
			n += count
		}
	}
	return n
}

// newWindow ends the flows that are known, so that each is told of anew.
func (f *fixture) newWindow(t *testing.T) {
	t.Helper()
	if _, err := f.Sweep(); err != nil {
		t.Fatal(err)
	}
	f.drain(t)
}

// drain reads what the ring holds, and keeps it for the account.
func (f *fixture) drain(t *testing.T) []Event {
	t.Helper()
	var all []Event
	for {
		events, _ := f.Ring().TryRead(100)
		if len(events) == 0 {
			break
		}
		all = append(all, events...)
	}
	f.drained = append(f.drained, all...)
	return all
}

func (f *fixture) wantPacketEvent(t *testing.T, w way) {
	t.Helper()
	n := 0
	for _, e := range f.drain(t) {
		if e.Hook != HookPacket || e.Verdict == policy.VerdictWouldDeny || e.Proto == policy.ProtoTCP && w.proto != policy.ProtoTCP {
			continue // of another hook, or the kernel tries a connection of an earlier way again
		}
		n++
		if e.Verdict != policy.VerdictDeny || e.Dst != w.dst || e.Proto != w.proto || e.Rule != w.rule || e.PID != 0 || e.Mode != policy.ModeBlock {
			t.Errorf("%s: event %+v", w.name, e)
		}
	}
	if n != 1 {
		t.Errorf("%s: %d events of packets, want 1", w.name, n)
	}
}

// TestLearningTellsOfPings holds that what block would refuse is known before: pings
// are judged by their packets alone.
func TestLearningTellsOfPings(t *testing.T) {
	w := world.New(t)
	f := newFixture(t, nil)
	f.putPolicy(t, 1, packetTable(), 1)
	f.manage(t, 1, State{Mode: policy.ModeLearn, Slot: 1})
	t.Cleanup(closeKept)
	for _, to := range []netip.Addr{allowed4, refused4} {
		var send func() error
		err := w.Host.Do(func() (err error) {
			send, err = sender(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP, echo(8), to, 0, nil)
			return err
		})
		if err == nil {
			err = send()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range f.drain(t) {
		if e.Dst != refused4 || e.Proto != policy.ProtoICMP || e.Verdict != policy.VerdictWouldDeny || e.Hook != HookPacket {
			t.Errorf("event %+v", e)
		}
	}
	c, err := f.Counters(1)
	if err != nil || c.WouldDeny != 1 || c.Deny != 0 {
		t.Errorf("counted %+v, %v; want one that block would refuse", c, err)
	}
}
