package bpf

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/policy"
)

// optionCase is a call of setsockopt. Its value is what the kernel takes where the
// gate lets it.
type optionCase struct {
	name          string
	family        int
	level, option int
	value         string
}

const one = "\x01\x00\x00\x00"

// lenders are the options by which a socket carries another's address.
var lenders = []optionCase{
	{"IP_FREEBIND", unix.AF_INET, unix.SOL_IP, unix.IP_FREEBIND, one},
	{"IP_TRANSPARENT", unix.AF_INET, unix.SOL_IP, unix.IP_TRANSPARENT, one},
	{"IPV6_FREEBIND", unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_FREEBIND, one},
	{"IPV6_TRANSPARENT", unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, one},
	{"IP_FREEBIND", unix.AF_INET6, unix.SOL_IP, unix.IP_FREEBIND, one},
}

const (
	// looseRoute is a source route by 192.0.2.1 and a no-operation.
	looseRoute = "\x83\x07\x04\xc0\x00\x02\x01\x01"
	// routingHeader is of type 4 (segments) by 2001:db8::1.
	routingHeader = "\x00\x02\x04\x00\x00\x00\x00\x00\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
	// padding is an extension header of options that say nothing.
	padding = "\x00\x00\x01\x04\x00\x00\x00\x00"
	// headerMessage is padding as a control message of hop-by-hop options: not every
	// kernel takes a routing header in that way.
	headerMessage = "\x18\x00\x00\x00\x00\x00\x00\x00\x29\x00\x00\x00\x36\x00\x00\x00" + padding
	// label asks for a flow label of one's own to 2001:db8::1.
	label = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x00\x00" + "\x00\x01\x01\x00" + "\x06\x00\x06\x00" + "\x00\x00\x00\x00"
)

// routers are the options by which packets go elsewhere than they say.
var routers = []optionCase{
	{"IP_OPTIONS", unix.AF_INET, unix.SOL_IP, unix.IP_OPTIONS, looseRoute},
	{"IP_OPTIONS", unix.AF_INET6, unix.SOL_IP, unix.IP_OPTIONS, looseRoute},
	{"IPV6_RTHDR", unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_RTHDR, routingHeader},
	{"IPV6_HOPOPTS", unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_HOPOPTS, padding},
	{"IPV6_DSTOPTS", unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_DSTOPTS, padding},
	{"IPV6_RTHDRDSTOPTS", unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_RTHDRDSTOPTS, padding},
	{"IPV6_2292PKTOPTIONS", unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_2292PKTOPTIONS, headerMessage},
	{"IPV6_FLOWLABEL_MGR", unix.AF_INET6, unix.SOL_IPV6, ipv6FlowlabelMgr, label + headerMessage},
}

// ordinary are options that a blocked container may set, which look like the
// others.
var ordinary = []optionCase{
	{"IP_OPTIONS taken off", unix.AF_INET, unix.SOL_IP, unix.IP_OPTIONS, ""},
	{"IPV6_RTHDR taken off", unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_RTHDR, ""},
	{"IPV6_HOPOPTS taken off", unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_HOPOPTS, ""},
	{"a plain flow label", unix.AF_INET6, unix.SOL_IPV6, ipv6FlowlabelMgr, label},
	{"IPV6_RECVRTHDR", unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_RECVRTHDR, one},
	{"SO_REUSEADDR", unix.AF_INET, unix.SOL_SOCKET, unix.SO_REUSEADDR, one},
}

func (c optionCase) set(t *testing.T) error {
	t.Helper()
	fd, err := udpSocket(c.family)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	return unix.SetsockoptString(fd, c.level, c.option, c.value)
}

func TestABlockedContainerSetsNoOptionThatLeadsAstray(t *testing.T) {
	f := newFixture(t, nil)
	f.manage(t, 1, State{Mode: policy.ModeLearn})
	astray := append(append([]optionCase{}, lenders...), routers...)
	for _, o := range append(append([]optionCase{}, astray...), ordinary...) {
		if err := o.set(t); err != nil {
			t.Fatalf("%s while learning: %v, so that the test shows nothing", o.name, err)
		}
	}
	f.putState(t, 1, State{Mode: policy.ModeBlock, Raw: true})
	for _, o := range astray {
		if err := o.set(t); !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: %v, want EPERM", o.name, err)
		}
	}
	for _, o := range ordinary {
		if err := o.set(t); err != nil {
			t.Errorf("%s: %v", o.name, err)
		}
	}
	f.wantAttempts(t, astray)
}

// wantAttempts reads an event of each option, once for learning and once for
// blocking, and holds the accounts together.
func (f *fixture) wantAttempts(t *testing.T, astray []optionCase) {
	t.Helper()
	events, _ := f.Ring().TryRead(100)
	l := newLedger()
	l.add(events)
	seen := map[string]map[policy.Verdict]int{}
	for _, e := range events {
		if e.Hook != HookSetsockopt || e.Dst.IsValid() || e.Rule != policy.RuleOption || e.Proto != policy.ProtoUDP {
			t.Errorf("event %+v", e)
		}
		if seen[e.Attempt] == nil {
			seen[e.Attempt] = map[policy.Verdict]int{}
		}
		seen[e.Attempt][e.Verdict]++
	}
	for _, o := range astray {
		if s := seen[o.name]; s[policy.VerdictDeny] != 1 || s[policy.VerdictWouldDeny] != 1 {
			t.Errorf("events of %s: %v", o.name, s)
		}
	}
	l.settle(t, f.Gate)
	n := uint64(len(astray))
	if c := l.check(t, f.Gate, 1); c != (Counters{Deny: n, WouldDeny: n}) {
		t.Errorf("counters %+v, want %d each", c, n)
	}
}

func TestOptionsOfFrameSocketsBelongToTheRawLabel(t *testing.T) {
	f := newFixture(t, nil)
	f.manage(t, 1, State{Mode: policy.ModeLearn})
	set := func() error {
		// The gate asks before the kernel knows whose option it is.
		return (optionCase{"", unix.AF_INET, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, one}).set(t)
	}
	for _, c := range []struct {
		state State
		want  error
	}{
		{State{Mode: policy.ModeBlock}, unix.EPERM},
		{State{Mode: policy.ModeBlock, Raw: true}, unix.ENOPROTOOPT},
		{State{Mode: policy.ModeLearn}, unix.ENOPROTOOPT},
		{State{Mode: policy.ModeAllow}, unix.ENOPROTOOPT},
	} {
		f.putState(t, 1, c.state)
		if err := set(); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.state, err, c.want)
		}
	}
}
