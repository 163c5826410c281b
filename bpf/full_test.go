package bpf

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/egresswarden/egresswarden/policy"
)

func TestAContainerWithoutRoomIsAnUnknownOne(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.MaxContainers = 2 })
	f.putState(t, 0, State{Mode: policy.ModeBlock, HostNetwork: true})
	f.putState(t, 1, State{Mode: policy.ModeLearn, HostNetwork: true})
	f.putContainer(t, newContainerID(), 1)
	f.putContainer(t, newContainerID(), 1)
	late := newContainerID()
	if err := f.PutContainer(late, 1); !errors.Is(err, ErrFull) {
		t.Fatalf("put: %v, want ErrFull", err)
	}
	dir, _ := mkdir(t, f.cgroup, late)
	if sendsIn(t, dir) {
		t.Error("a container that found no room is open")
	}
}

func TestBirthsWithoutRoomAreJudgedAllTheSame(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.MaxCgroups = 1 })
	f.putState(t, 0, State{Mode: policy.ModeBlock, HostNetwork: true})
	f.putState(t, 1, State{Mode: policy.ModeLearn, HostNetwork: true})
	if err := f.PutCgroup(1<<60, 1); err != nil {
		t.Fatal(err)
	}
	known := newContainerID()
	f.putContainer(t, known, 1)
	learning, _ := mkdir(t, f.cgroup, known)
	stranger, _ := mkdir(t, f.cgroup, newContainerID())
	child, _ := mkdir(t, stranger, "child")
	inner, _ := mkdir(t, child, known)
	host, _ := mkdir(t, f.cgroup, "host")
	if lost, err := f.LostBirths(); err != nil || lost < 2 {
		t.Errorf("%d births are lost (%v), want 2 at least", lost, err)
	}
	for _, c := range []struct {
		name, dir string
		passes    bool
	}{
		{"a known container in mode learn", learning, true},
		{"an unknown container", stranger, false},
		{"its child", child, false},
		{"a container in the child", inner, false},
		{"a process of the host", host, true},
	} {
		if got := sendsIn(t, c.dir); got != c.passes {
			t.Errorf("%s: passes %v, want %v", c.name, got, c.passes)
		}
	}
}

func TestATrieWithoutRoomLeavesTheOldPolicy(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.TablePrefixes = 4 })
	f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	f.putPolicy(t, 1, table("192.0.2.1/32"), 7)
	big := table("192.0.2.2/32", "192.0.2.3/32", "192.0.2.4/32", "192.0.2.5/32", "192.0.2.6/32")
	for range 20 { // more often than there are spare tables
		if err := f.SetPolicy(1, big, 8); !errors.Is(err, ErrFull) {
			t.Fatalf("set policy: %v, want ErrFull", err)
		}
	}
	for dst, want := range map[string]Decision{
		"192.0.2.1": {policy.VerdictAllow, 100, 7},
		"192.0.2.2": {policy.VerdictDeny, 0, 7},
	} {
		got, err := f.Judge(1, netip.MustParseAddr(dst), policy.ProtoTCP, 1)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", dst, got, err, want)
		}
	}
}

func TestAFullFlowTableStillDenies(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.FlowEntries = 16 })
	f.putPolicy(t, 1, table("127.16.0.0/26"), 1)
	f.manage(t, 1, State{Mode: policy.ModeBlock, Slot: 1, HostNetwork: true})
	if o := flood(t, 1, 2000, 2); o.passed != 2*64 || o.refused != 2*1936 {
		t.Errorf("with a full flow table: %+v", o)
	}
	l := newLedger()
	l.settle(t, f.Gate)
	l.check(t, f.Gate, 1)
	if l.over == 0 {
		t.Error("no event tells of the overflow")
	}
}

func TestReservedAndImpossibleNumbersAreRefused(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.MaxContainers = 4 })
	for name, err := range map[string]error{
		"the empty slot":      f.SetPolicy(0, table(), 1),
		"a slot too high":     f.SetPolicy(4, table(), 1),
		"freeing slot 0":      f.FreePolicy(0),
		"an index too high":   f.SetState(4, State{}),
		"a state's slot":      f.SetState(1, State{Slot: 4}),
		"a cgroup's index":    f.PutCgroup(1, 4),
		"a container's index": f.PutContainer(newContainerID(), 4),
	} {
		if !errors.Is(err, ErrRange) {
			t.Errorf("%s: %v, want ErrRange", name, err)
		}
	}
	if _, err := f.Judge(4, netip.MustParseAddr("192.0.2.1"), policy.ProtoTCP, 1); !errors.Is(err, ErrRange) {
		t.Errorf("judging an index too high: %v", err)
	}
	if err := f.RemoveCgroup(12345); !errors.Is(err, ErrNotFound) {
		t.Errorf("removing no cgroup: %v", err)
	}
}

func TestEverySlotHoldsItsOwnPolicy(t *testing.T) {
	const slots = 1000
	f := newFixture(t, func(o *Options) { o.MaxContainers = slots + 1 })
	for n := range uint32(slots) {
		dst := netip.PrefixFrom(netip.AddrFrom4(loopback(int(n))), 32)
		f.putPolicy(t, n+1, table(dst.String()), uint64(n))
		f.putState(t, n+1, State{Mode: policy.ModeBlock, Slot: n + 1, HostNetwork: true})
	}
	for n := range uint32(slots) {
		for _, other := range []int{0, 1} {
			dst := netip.AddrFrom4(loopback(int(n) ^ other))
			d, err := f.Judge(n+1, dst, policy.ProtoTCP, 1)
			if err != nil {
				t.Fatal(err)
			}
			if (d.Verdict == policy.VerdictAllow) != (other == 0) || d.Revision != uint64(n) {
				t.Fatalf("slot %d to %s: %+v", n+1, dst, d)
			}
		}
	}
}
