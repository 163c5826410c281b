package bpf

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/internal/testutil/world"
	"github.com/egresswarden/egresswarden/policy"
)

// TestTheKernelsOwnSocketsAreLetAlone makes the network namespace as runc does,
// inside the container's cgroup: its neighbour discovery and resets have sockets of
// the container's then.
func TestTheKernelsOwnSocketsAreLetAlone(t *testing.T) {
	f := newFixture(t, nil)
	f.putPolicy(t, 1, packetTable(), 1)
	f.manage(t, 1, State{Mode: policy.ModeLearn, Slot: 1})
	w := world.New(t)
	seen := w.Capture(t, netip.PrefixFrom(allowed6, 128))
	f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	err := w.Host.Do(func() error {
		c, err := net.Dial("udp6", netip.AddrPortFrom(allowed6, 443).String())
		if err != nil {
			return err
		}
		defer c.Close()
		return turn(c)
	})
	if err != nil {
		t.Errorf("IPv6: %v", err)
	}
	if n := seen.Count(t, allowed6, 443); n == 0 {
		t.Error("no neighbour was found")
	}
	// A port where nobody listens answers with a reset, not with silence.
	f.putPolicy(t, 1, answerTable(), 2)
	for _, host := range []netip.Addr{world.HostAddr4, world.HostAddr6} {
		err := w.World.Do(func() error {
			c, err := net.DialTimeout("tcp", netip.AddrPortFrom(host, 9).String(), time.Minute)
			if err == nil {
				_ = c.Close()
			}
			return err
		})
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: a closed port answers %v", host, err)
		}
	}
	if n := f.denials(t); n != 0 {
		t.Errorf("%d packets of the kernel's were refused: %+v", n, f.drain(t))
	}
}

// TestARawSocketForgesNoPeer sends a datagram to the container itself, in the name
// of somebody outside, by a socket made while learning.
func TestARawSocketForgesNoPeer(t *testing.T) {
	w := world.New(t)
	f := newFixture(t, nil)
	f.putPolicy(t, 1, table(), 1)
	f.manage(t, 1, State{Mode: policy.ModeLearn, Slot: 1})
	t.Cleanup(closeKept)
	var server, raw int
	var own *unix.SockaddrInet4
	err := w.Host.Do(func() (err error) {
		if raw, err = makeSocket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW); err != nil {
			return err
		}
		if server, err = makeSocket(unix.AF_INET, unix.SOCK_DGRAM, 0); err != nil {
			return err
		}
		if err := unix.Bind(server, &unix.SockaddrInet4{Addr: world.HostAddr4.As4()}); err != nil {
			return err
		}
		name, err := unix.Getsockname(server)
		own = name.(*unix.SockaddrInet4)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	forge := func(src netip.Addr) (heard bool, err error) {
		b := datagram4(src, world.HostAddr4, uint16(own.Port))
		binary.BigEndian.PutUint16(b[20:], 53)
		err = unix.Sendto(raw, b, 0, own)
		_, _, got := unix.Recvfrom(server, make([]byte, 16), unix.MSG_DONTWAIT)
		return got == nil, err
	}
	if heard, err := forge(refused4); !heard || err != nil {
		t.Fatalf("while learning: heard %v, %v, so that the test shows nothing", heard, err)
	}
	f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	if heard, err := forge(forged4); heard || !errors.Is(err, unix.EPERM) {
		t.Errorf("once blocked: heard %v, %v", heard, err)
	}
	if heard, err := forge(netip.MustParseAddr("127.0.0.1")); !heard || err != nil {
		t.Errorf("a raw socket that stays inside: heard %v, %v", heard, err)
	}
}

// forged4 is another address than the one that was forged while learning.
var forged4 = netip.MustParseAddr("203.0.113.67")

// TestTheWallAgreesWithPolicyJudgeOfPings sends pings under random policies: each is
// refused, and counted, or goes out, as policy.Judge says.
func TestTheWallAgreesWithPolicyJudgeOfPings(t *testing.T) {
	const policies, pings = 60, 40
	w := world.New(t)
	f := newFixture(t, nil)
	f.manage(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	t.Cleanup(closeKept)
	var four, six int
	err := w.Host.Do(func() (err error) {
		if four, err = makeSocket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP); err != nil {
			return err
		}
		six, err = makeSocket(unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	seen := map[policy.Verdict]int{}
	for i := range uint64(policies) {
		rules := randomRules(r)
		compiled, err := policy.Compile(rules, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		f.putPolicy(t, 1, compiled, i)
		for range pings {
			dst := netip.MustParseAddr(pick(r, pingAddrs))
			want, _ := policy.Judge(compiled, policy.ModeBlock, policy.Request{Dst: dst, Proto: policy.ProtoICMP})
			seen[want]++
			before := f.denials(t)
			fd, kind := four, byte(8)
			if dst.Is6() {
				fd, kind = six, 128
			}
			err := unix.Sendto(fd, echo(kind), 0, sockaddr(dst, 0))
			refused := f.denials(t) - before
			if (want == policy.VerdictDeny) != (refused == 1) || want == policy.VerdictAllow && err != nil {
				t.Fatalf("a ping to %s: %d refused, %v; policy.Judge says %s\nrules %v", dst, refused, err, want, rules)
			}
		}
	}
	if seen[policy.VerdictAllow] < 50 || seen[policy.VerdictDeny] < 50 {
		t.Errorf("too few cases: %v", seen)
	}
	l := newLedger()
	l.settle(t, f.Gate)
	l.check(t, f.Gate, 1)
}

// pingAddrs are those of judgeAddrs that a ping can be sent to.
var pingAddrs = []string{
	"10.0.0.1", "10.0.1.255", "10.128.0.0", "192.0.2.7", "169.254.169.254", "127.0.0.1", "2001:db8::", "2001:db8::1", "2001:db8:0:1::", "64:ff9b::a00:1",
}
