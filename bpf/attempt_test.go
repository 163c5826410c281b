package bpf

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/policy"
)

// socketCase is a socket that the gate refuses a blocked container, or not.
type socketCase struct {
	family, kind, proto int
	refused             bool
	// text is the event's attempt.
	text string
	// outside is what the kernel answers without the gate: a namespace may let
	// nobody ping.
	outside error
}

const (
	protoUDPLite = 136
	protoL2TP    = 115
)

var socketCases = []socketCase{
	{unix.AF_INET, unix.SOCK_STREAM, 0, false, "", nil},
	{unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_TCP, false, "", nil},
	{unix.AF_INET, unix.SOCK_STREAM, protoMPTCP, false, "", nil},
	{unix.AF_INET, unix.SOCK_DGRAM, 0, false, "", nil},
	{unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP, false, "", nil},
	{unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP, false, "", nil},
	{unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_ICMPV6, false, "", nil},
	{unix.AF_UNIX, unix.SOCK_STREAM, 0, false, "", nil},
	{unix.AF_NETLINK, unix.SOCK_RAW, 0, false, "", nil},
	{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW, true, "inet raw socket", nil},
	{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP, true, "inet raw socket", nil},
	{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP, true, "inet raw socket", nil},
	{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP, true, "inet raw socket", nil},
	{unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_RAW, true, "inet6 raw socket", nil},
	{unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6, true, "inet6 raw socket", nil},
	{unix.AF_INET, unix.SOCK_DGRAM, protoUDPLite, true, "inet dgram socket", nil},
	{unix.AF_INET6, unix.SOCK_DGRAM, protoUDPLite, true, "inet6 dgram socket", nil},
	{unix.AF_INET, unix.SOCK_DGRAM, protoL2TP, true, "inet dgram socket", nil},
	{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP, true, "inet stream socket", nil},
	{unix.AF_INET6, unix.SOCK_SEQPACKET, unix.IPPROTO_SCTP, true, "inet6 seqpacket socket", nil},
	{unix.AF_INET, unix.SOCK_DCCP, unix.IPPROTO_DCCP, true, "inet dccp socket", nil},
}

func (c socketCase) String() string {
	return fmt.Sprintf("family %d type %d protocol %d", c.family, c.kind, c.proto)
}

// open makes the socket and lets it go.
func (c socketCase) open() error {
	fd, err := unix.Socket(c.family, c.kind|unix.SOCK_CLOEXEC, c.proto)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// unknownHere tells of an error whether it is the kernel's, which lacks the protocol.
func unknownHere(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT)
}

// here are the cases of protocols that this kernel knows; loading their modules
// is for a process that nothing is refused to.
func here(t *testing.T) []socketCase {
	t.Helper()
	var known []socketCase
	for _, c := range socketCases {
		c.outside = c.open()
		if unknownHere(c.outside) {
			continue
		}
		if c.outside != nil && c.refused {
			t.Fatalf("%s outside the gate: %v", c, c.outside)
		}
		known = append(known, c)
	}
	if len(known) < 14 {
		t.Fatalf("this kernel knows %d of the cases alone", len(known))
	}
	return known
}

func TestABlockedContainerGetsNoSocketWithoutADestination(t *testing.T) {
	cases := here(t)
	f := newFixture(t, nil)
	f.manage(t, 1, State{Mode: policy.ModeBlock})
	want, refused := map[string]int{}, uint64(0)
	for _, c := range cases {
		err := c.open()
		if !c.refused && !errors.Is(err, c.outside) || c.refused && !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: %v, refused should be %v", c, err, c.refused)
		}
		if c.refused {
			want[fmt.Sprint(c.text, " ", c.proto)]++
			refused++
		}
	}
	l := newLedger()
	events, _ := f.Ring().TryRead(100)
	l.add(events)
	got := map[string]int{}
	for _, e := range events {
		got[fmt.Sprint(e.Attempt, " ", uint8(e.Proto))]++
		if e.Hook != HookSockCreate || e.Verdict != policy.VerdictDeny || e.Dst.IsValid() || e.Rule != policy.RuleSocket || e.PID == 0 || e.Comm == "" {
			t.Errorf("event %+v", e)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	l.settle(t, f.Gate)
	if c := l.check(t, f.Gate, 1); c != (Counters{Deny: refused}) {
		t.Errorf("counters %+v, want %d denials", c, refused)
	}
}

func TestASocketWithoutADestinationIsKept(t *testing.T) {
	cases := here(t)
	f := newFixture(t, nil)
	f.manage(t, 1, State{})
	for _, c := range []struct {
		name  string
		state State
		would bool
	}{
		{"allow", State{Mode: policy.ModeAllow}, false},
		{"learn", State{Mode: policy.ModeLearn}, true},
		{"block with its label", State{Mode: policy.ModeBlock, Raw: true}, false},
		{"learn with its label", State{Mode: policy.ModeLearn, Raw: true}, false},
	} {
		before, err := f.Counters(1)
		if err != nil {
			t.Fatal(err)
		}
		f.putState(t, 1, c.state)
		want := before
		for _, s := range cases {
			if err := s.open(); !errors.Is(err, s.outside) {
				t.Errorf("%s: %s: %v", c.name, s, err)
			}
			if s.refused && c.would {
				want.WouldDeny++
			}
		}
		if got, err := f.Counters(1); err != nil || got != want {
			t.Errorf("%s: counters %+v, want %+v (%v)", c.name, got, want, err)
		}
	}
}

// TestAFloodOfAttemptsIsAccountedExactly has few keys and a ring without room.
func TestAFloodOfAttemptsIsAccountedExactly(t *testing.T) {
	const rounds = 20_000
	f := newFixture(t, func(o *Options) { o.RingBytes = 4096; o.FlowEntries = 1 })
	f.manage(t, 1, State{Mode: policy.ModeBlock})
	cases := []socketCase{
		{family: unix.AF_INET, kind: unix.SOCK_RAW, proto: unix.IPPROTO_UDP},
		{family: unix.AF_INET6, kind: unix.SOCK_RAW, proto: unix.IPPROTO_UDP},
		{family: unix.AF_INET, kind: unix.SOCK_RAW, proto: unix.IPPROTO_RAW},
	}
	for i := range rounds {
		if err := cases[i%len(cases)].open(); !errors.Is(err, unix.EPERM) {
			t.Fatalf("%s: %v", cases[i%len(cases)], err)
		}
	}
	l := newLedger()
	l.settle(t, f.Gate)
	if c := l.check(t, f.Gate, 1); c != (Counters{Deny: rounds}) {
		t.Errorf("counters %+v, want %d denials", c, rounds)
	}
	if l.over == 0 {
		t.Error("nothing overflowed, so that the test shows less than it should")
	}
}
