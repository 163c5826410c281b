package bpf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/policy"
)

// server is a UDP socket of the managed container that this process is.
type server struct {
	*net.UDPConn
	f    *fixture
	port int
}

func (f *fixture) serve(t testing.TB, network, addr string) *server {
	t.Helper()
	a, err := net.ResolveUDPAddr(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenUDP(network, a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	// Room for whoever speaks while this process is busy otherwise.
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return &server{c, f, c.LocalAddr().(*net.UDPAddr).Port}
}

// hear lets a process that is not managed speak to the server from n sockets,
// and returns who spoke last.
func (s *server) hear(t testing.TB, host string, n int) netip.AddrPort {
	t.Helper()
	cmd, _ := startHelper(t, s.f.cgroup, "speak", net.JoinHostPort(host, fmt.Sprint(s.port)), fmt.Sprint(n))
	var from netip.AddrPort
	for range n {
		from = s.receive(t)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return from
}

func (s *server) receive(t testing.TB) netip.AddrPort {
	t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	var buf [16]byte
	_, from, err := s.ReadFromUDPAddrPort(buf[:])
	if err != nil {
		t.Fatal(err)
	}
	return from
}

func (s *server) answers(t testing.TB, to netip.AddrPort) bool {
	t.Helper()
	_, err := s.WriteToUDPAddrPort([]byte("answer"), to)
	if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatal(err)
	}
	return !errors.Is(err, unix.EPERM)
}

func TestABlockedUDPServerAnswersWhoSpokeFirst(t *testing.T) {
	f := newFixture(t, nil)
	f.manage(t, 1, State{Mode: policy.ModeBlock, HostNetwork: true})
	for _, c := range []struct{ name, network, listen, host string }{
		{"IPv4", "udp4", "127.0.0.1:0", "127.0.0.1"},
		{"IPv6", "udp6", "[::1]:0", "::1"},
		{"dual stack", "udp", "[::]:0", "127.0.0.1"},
	} {
		s := f.serve(t, c.network, c.listen)
		peer := s.hear(t, c.host, 1)
		if !s.answers(t, peer) {
			t.Errorf("%s: the answer to %s is refused", c.name, peer)
		}
		if got := dial("udp", peer.String()); got != 0 {
			t.Errorf("%s: a connected answer to %s: %v", c.name, peer, got)
		}
		other := netip.AddrPortFrom(peer.Addr(), peer.Port()^1)
		if s.answers(t, other) {
			t.Errorf("%s: %s never spoke, but is answered", c.name, other)
		}
		if got := dial("tcp", peer.String()); got != unix.EPERM {
			t.Errorf("%s: TCP to a UDP peer: %v, want EPERM", c.name, got)
		}
	}
	events, _ := f.Ring().TryRead(100)
	for _, e := range events {
		reply := e.Verdict == policy.VerdictAllow
		if reply != (e.Reason == ReasonReply) || reply != (e.Rule == policy.RuleReply) {
			t.Errorf("event %+v", e)
		}
	}
}

func TestAPeerExpires(t *testing.T) {
	f := newFixture(t, nil)
	f.manage(t, 1, State{Mode: policy.ModeBlock, HostNetwork: true})
	s := f.serve(t, "udp4", "127.0.0.1:0")
	peer := s.hear(t, "127.0.0.1", 1)
	if !s.answers(t, peer) {
		t.Fatal("the answer is refused")
	}
	f.age(t, 30*time.Second)
	if !s.answers(t, peer) {
		t.Error("refused after 30 seconds")
	}
	f.age(t, 61*time.Second)
	if s.answers(t, peer) {
		t.Error("still answered after 61 seconds, as the flow is known")
	}
}

// age makes every peer one that was last heard of so long ago.
func (f *fixture) age(t testing.TB, by time.Duration) {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	var keys []gatePeerKey
	var values []uint64
	err := listHash(f.objects.Peers, func(k gatePeerKey, v uint64) {
		keys = append(keys, k)
		values = append(values, uint64(now.Nano()-by.Nanoseconds())<<1|v&1)
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		if err := f.objects.Peers.Put(&keys[i], &values[i]); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheMemoryOfPeersIsBounded(t *testing.T) {
	const room = 256
	f := newFixture(t, func(o *Options) { o.Peers = room })
	f.manage(t, 1, State{Mode: policy.ModeBlock, HostNetwork: true})
	s := f.serve(t, "udp4", "127.0.0.1:0")
	last := s.hear(t, "127.0.0.1", 4*room)
	n := 0
	if err := listHash(f.objects.Peers, func(gatePeerKey, uint64) { n++ }); err != nil {
		t.Fatal(err)
	}
	if n == 0 || n > room {
		t.Errorf("%d peers are remembered, want 1 to %d", n, room)
	}
	if !s.answers(t, last) {
		t.Error("the last peer that spoke is not answered")
	}
}

func TestAnAnswerToAQuestionIsNoPermission(t *testing.T) {
	f := newFixture(t, nil)
	open, closed := table("127.0.0.0/8"), table()
	f.putPolicy(t, 1, open, 1)
	f.manage(t, 1, State{Mode: policy.ModeBlock, Slot: 1, HostNetwork: true})
	asker := f.serve(t, "udp4", "127.0.0.1:0")
	other := f.serve(t, "udp4", "127.0.0.1:0")
	peer := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(other.port))
	exchange := func() {
		t.Helper()
		if !asker.answers(t, peer) {
			t.Fatal("the question is refused")
		}
		if !other.answers(t, other.receive(t)) {
			t.Fatal("the answer is refused")
		}
		asker.receive(t)
	}
	exchange()
	f.putPolicy(t, 1, closed, 2)
	if asker.answers(t, peer) {
		t.Error("revoked, but whoever answered once may be asked again")
	}
	f.putState(t, 1, State{Mode: policy.ModeLearn, Slot: 1, HostNetwork: true})
	f.age(t, 2*time.Minute)
	exchange()
	exchange()
	events, _ := f.Ring().TryRead(100)
	if len(events) == 0 {
		t.Fatal("no events")
	}
	for _, e := range events {
		if e.Reason == ReasonReply && e.DstPort == peer.Port() {
			t.Errorf("a question passes for an answer: %+v", e)
		}
	}
}
