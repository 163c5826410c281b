package bpf

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/policy"
)

const protoMPTCP = 262

// try is one way to reach a destination; it reports whether the gate let it.
type try struct {
	name    string
	connect bool
	family  int
	kind    int
	proto   int
}

var tries = []try{
	{"TCP", true, unix.AF_INET, unix.SOCK_STREAM, 0},
	{"TCP by IPv6", true, unix.AF_INET6, unix.SOCK_STREAM, 0},
	{"MPTCP", true, unix.AF_INET, unix.SOCK_STREAM, protoMPTCP},
	{"connected UDP", true, unix.AF_INET, unix.SOCK_DGRAM, 0},
	{"connected UDP by IPv6", true, unix.AF_INET6, unix.SOCK_DGRAM, 0},
	{"unconnected UDP", false, unix.AF_INET, unix.SOCK_DGRAM, 0},
	{"unconnected UDP by IPv6", false, unix.AF_INET6, unix.SOCK_DGRAM, 0},
	{"TCP Fast Open", false, unix.AF_INET, unix.SOCK_STREAM, 0},
}

// passes reports whether the way leads to the destination; ok is false where
// it does not apply. A v6 socket reaches IPv4 by mapped addresses.
func (y try) passes(t testing.TB, dst netip.Addr) (passes, ok bool) {
	t.Helper()
	if dst.Is6() && y.family == unix.AF_INET {
		return false, false
	}
	fd, err := unix.Socket(y.family, y.kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, y.proto)
	if err != nil {
		return false, false // a kernel without MPTCP
	}
	defer unix.Close(fd)
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: 9, Addr: dst.As16()}
	if y.family == unix.AF_INET {
		to = &unix.SockaddrInet4{Port: 9, Addr: dst.As4()}
	}
	if y.connect {
		err = unix.Connect(fd, to)
	} else {
		flags := 0
		if y.kind == unix.SOCK_STREAM {
			flags = unix.MSG_FASTOPEN
		}
		err = unix.Sendto(fd, []byte{1}, flags, to)
	}
	return !errors.Is(err, unix.EPERM), true
}

func TestTheGateHoldsForEveryWayOut(t *testing.T) {
	f := newFixture(t, nil)
	f.putPolicy(t, 1, table("127.0.1.0/24", "127.0.0.11/32", "::/128"), 7)
	f.manage(t, 1, State{Mode: policy.ModeBlock, Slot: 1, HostNetwork: true})
	for dst, want := range map[string]bool{
		"127.0.1.5":  true,
		"127.0.2.5":  false,
		"127.0.0.11": true, // by its rule
		"127.0.0.12": false,
		"0.0.0.0":    false,
		"::1":        false,
		"::":         true,
	} {
		for _, y := range tries {
			if got, ok := y.passes(t, netip.MustParseAddr(dst)); ok && got != want {
				t.Errorf("%s to %s: passes %v, want %v", y.name, dst, got, want)
			}
		}
	}
	l := newLedger()
	l.settle(t, f.Gate)
	l.check(t, f.Gate, 1)
}

func TestLoopbackAndTheResolverOfAContainer(t *testing.T) {
	f := newFixture(t, nil)
	f.putState(t, 1, State{Mode: policy.ModeBlock})
	f.manage(t, 1, State{Mode: policy.ModeBlock})
	if got := dial("udp", "127.0.0.1:53"); got != 0 {
		t.Errorf("loopback: %v", got)
	}
	if c, err := f.Counters(1); err != nil || c.Total() != 0 {
		t.Errorf("loopback is counted: %+v, %v", c, err)
	}
	if got := dial("udp", "127.0.0.11:53"); got != 0 {
		t.Errorf("the resolver: %v", got)
	}
	f.putState(t, 1, State{Mode: policy.ModeBlock, NoDNS: true})
	for _, network := range []string{"udp", "tcp"} {
		if got := dial(network, "127.0.0.11:53"); got != unix.EPERM {
			t.Errorf("the resolver by %s with egress.dns=deny: %v, want EPERM", network, got)
		}
	}
	events, _ := f.Ring().TryRead(10)
	if len(events) != 3 {
		t.Fatalf("events: %+v", events)
	}
	for i, want := range []policy.Verdict{policy.VerdictAllow, policy.VerdictDeny, policy.VerdictDeny} {
		e := events[i]
		if e.Verdict != want || e.Rule != policy.RuleResolver || e.Reason != ReasonResolver {
			t.Errorf("event %+v, want %v by the resolver's rule", e, want)
		}
	}
}

func TestAProcessOfTheHostIsLetAlone(t *testing.T) {
	f := newFixture(t, nil)
	enter(t, newCgroup(t, f.cgroup))
	if o := flood(t, 1, 10, 1); o.passed != 10 {
		t.Errorf("the host's process: %+v", o)
	}
	if events, _ := f.Ring().TryRead(10); len(events) != 0 {
		t.Errorf("the host's process has events: %+v", events)
	}
}

func TestModeAllowIsNotCounted(t *testing.T) {
	f := newFixture(t, nil)
	f.manage(t, 1, State{Mode: policy.ModeAllow, HostNetwork: true})
	if o := flood(t, 1, 10, 1); o.passed != 10 {
		t.Errorf("mode allow: %+v", o)
	}
	if c, err := f.Counters(1); err != nil || c.Total() != 0 {
		t.Errorf("mode allow is counted: %+v, %v", c, err)
	}
}
