package bpf

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/policy"
)

// bigTable has n rules of 64 addresses each from 127.16.0.0 on: every other
// rule of an even revision allows, of an odd one the others.
func bigTable(t testing.TB, n int, revision uint64) *policy.Table {
	t.Helper()
	rules := make([]policy.Rule, n)
	for i := range rules {
		p := netip.PrefixFrom(netip.AddrFrom4(loopback(i*64)), 26)
		action := policy.ActionDeny
		if swapAllows(i*64, revision) {
			action = policy.ActionAllow
		}
		r, err := policy.NewRule(action, p, nil)
		if err != nil {
			t.Fatal(err)
		}
		rules[i] = r
	}
	table, err := policy.Compile(rules, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func swapAllows(n int, revision uint64) bool { return (uint64(n/64)+revision)%2 == 0 }

func numberOf(addr netip.Addr) int {
	a := addr.As4()
	return int(a[1])<<16 + int(a[2])<<8 + int(a[3]) - 16<<16
}

// swapChecker holds every event against the policy of the event's revision.
type swapChecker struct {
	tables [2]*policy.Table
	seen   [2]atomic.Int64
}

func (s *swapChecker) check(d Decision, dst netip.Addr) error {
	want := policy.VerdictDeny
	if swapAllows(numberOf(dst), d.Revision) {
		want = policy.VerdictAllow
	}
	m := s.tables[d.Revision%2].Match(dst, policy.ProtoUDP, 9)
	if d.Verdict != want || d.Rule != m.Rule {
		return fmt.Errorf("%s at revision %d: %v by rule %d, want %v by %d", dst, d.Revision, d.Verdict, d.Rule, want, m.Rule)
	}
	s.seen[d.Revision%2].Add(1)
	return nil
}

func (s *swapChecker) checkEvents(events []Event) error {
	for _, e := range events {
		if e.Reason == ReasonOverflow {
			continue
		}
		if err := s.check(Decision{e.Verdict, e.Rule, e.Revision}, e.Dst); err != nil {
			return err
		}
	}
	return nil
}

func TestASwapOfALargePolicyIsNeverAMixture(t *testing.T) {
	const rules = 10_000
	f := newFixture(t, nil)
	s := &swapChecker{tables: [2]*policy.Table{bigTable(t, rules, 0), bigTable(t, rules, 1)}}
	f.putPolicy(t, 1, s.tables[0], 0)
	f.manage(t, 1, State{Mode: policy.ModeBlock, Slot: 1, HostNetwork: true})
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	load.Go(func() { // real sends, whose events are checked
		for ctx.Err() == nil {
			if _, err := floodFrom(0, 61, rules*64, 1); err != nil {
				t.Error(err)
			}
		}
	})
	load.Go(func() {
		for ctx.Err() == nil {
			events, next := f.Ring().TryRead(512)
			if err := s.checkEvents(events); err != nil {
				t.Error(err)
			}
			if err := f.Ring().Commit(next); err != nil {
				t.Error(err)
			}
			if _, err := f.Sweep(); err != nil {
				t.Error(err)
			}
		}
	})
	load.Go(func() { // the same core, asked directly
		for n := 0; ctx.Err() == nil; n = (n + 67) % (rules * 64) {
			dst := netip.AddrFrom4(loopback(n))
			d, err := f.Judge(1, dst, policy.ProtoUDP, 9)
			if err == nil {
				err = s.check(d, dst)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range uint64(scaled(200)) {
		f.putPolicy(t, 1, s.tables[(i+1)%2], i+1)
	}
	stop()
	load.Wait()
	if s.seen[0].Load() == 0 || s.seen[1].Load() == 0 {
		t.Errorf("only one of the policies was ever seen: %d, %d", s.seen[0].Load(), s.seen[1].Load())
	}
}

func TestAStateChangeHoldsAtOnceForKnownFlows(t *testing.T) {
	f := newFixture(t, nil)
	f.putPolicy(t, 1, table("127.0.0.0/8"), 1)
	f.putPolicy(t, 2, table("127.1.0.0/16"), 2)
	f.manage(t, 1, State{Mode: policy.ModeBlock, Slot: 1, HostNetwork: true})
	for _, c := range []struct {
		name   string
		state  State
		passed uint64
	}{
		{"allowed by the policy", State{Mode: policy.ModeBlock, Slot: 1, HostNetwork: true}, 1},
		{"another policy", State{Mode: policy.ModeBlock, Slot: 2, HostNetwork: true}, 0},
		{"learn", State{Mode: policy.ModeLearn, Slot: 2, HostNetwork: true}, 1},
		{"block again", State{Mode: policy.ModeBlock, Slot: 2, HostNetwork: true}, 0},
		{"let alone", State{Mode: policy.ModeAllow, Slot: 2, HostNetwork: true}, 1},
		{"no mode", State{Slot: 2, HostNetwork: true}, 0},
		{"loopback of its own", State{Mode: policy.ModeBlock, Slot: 2}, 1},
	} {
		f.putState(t, 1, c.state)
		if got, err := f.State(1); err != nil || got != c.state {
			t.Errorf("%s: state %+v, %v", c.name, got, err)
		}
		if o := flood(t, 1, 1, 1); o.passed != c.passed {
			t.Errorf("%s: %+v, want %d passed", c.name, o, c.passed)
		}
	}
}
