package bpf

import (
	"context"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/egresswarden/egresswarden/policy"
)

// ledger adds up the counts of events, each position once.
type ledger struct {
	seen   map[Position]bool
	counts map[uint32]Counters
	over   uint64 // decisions without a destination
	events int
}

func newLedger() *ledger {
	return &ledger{seen: make(map[Position]bool), counts: make(map[uint32]Counters)}
}

func (l *ledger) add(events []Event) {
	for _, e := range events {
		l.addOne(e)
	}
}

func (l *ledger) addOne(e Event) {
	if l.seen[e.Position] {
		return
	}
	l.seen[e.Position] = true
	l.events++
	c := l.counts[e.Index]
	switch e.Verdict {
	case policy.VerdictAllow:
		c.Allow += e.Count
	case policy.VerdictDeny:
		c.Deny += e.Count
	case policy.VerdictWouldDeny:
		c.WouldDeny += e.Count
	}
	l.counts[e.Index] = c
	if e.Reason == ReasonOverflow {
		l.over += e.Count
	}
}

// read takes what the ring holds, and commits it.
func (l *ledger) read(r *Ring) error {
	for {
		events, next := r.TryRead(512)
		l.add(events)
		if err := r.Commit(next); err != nil || len(events) == 0 {
			return err
		}
	}
}

// round reads, sweeps, and reads again; it reports whether all is swept.
func (l *ledger) round(g *Gate) (bool, error) {
	if err := l.read(g.Ring()); err != nil {
		return false, err
	}
	r, err := g.Sweep()
	if err != nil {
		return false, err
	}
	return r.Left == 0, l.read(g.Ring())
}

// rounds goes on until ctx ends.
func (l *ledger) rounds(ctx context.Context, t testing.TB, g *Gate) {
	for ctx.Err() == nil {
		if _, err := l.round(g); err != nil {
			t.Error(err)
			return
		}
	}
}

// settle sweeps and reads until the kernel holds nothing back.
func (l *ledger) settle(t testing.TB, g *Gate) {
	t.Helper()
	for done := false; !done; {
		var err error
		if done, err = l.round(g); err != nil {
			t.Fatal(err)
		}
	}
	left, err := g.Residue()
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 0 {
		t.Errorf("residue after the sweep: %v", left)
	}
}

func (l *ledger) check(t testing.TB, g *Gate, index uint32) Counters {
	t.Helper()
	c, err := g.Counters(index)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, l.counts[index]); diff != "" {
		t.Errorf("index %d: counters and events differ (-counters +events):\n%s", index, diff)
	}
	return c
}

func TestAFloodIsAccountedExactlyWithAOnePageRingAndNoReader(t *testing.T) {
	const dests, rounds = 100_000, 11
	f := newFixture(t, func(o *Options) { o.RingBytes = 4096; o.FlowEntries = 1 << 15 })
	f.putPolicy(t, 1, table("127.16.0.0/24"), 1)
	f.manage(t, 1, State{Mode: policy.ModeBlock, Slot: 1, HostNetwork: true})
	o := flood(t, 2, dests, rounds)
	l := newLedger()
	l.settle(t, f.Gate)
	c := l.check(t, f.Gate, 1)
	if c.Allow != o.passed || c.Deny != o.refused || c.Total() != dests*rounds {
		t.Errorf("counters %+v, sends %+v, want %d in all", c, o, dests*rounds)
	}
	over, err := f.Overflow(1)
	if err != nil {
		t.Fatal(err)
	}
	if l.over == 0 || over.Total() != l.over {
		t.Errorf("overflow %+v, events tell of %d", over, l.over)
	}
	if c.Allow != 256*rounds {
		t.Errorf("%d allowed, want %d", c.Allow, 256*rounds)
	}
	all, overAll, err := f.Totals()
	if err != nil || all != c || overAll != over {
		t.Errorf("totals %+v and %+v (%v), the one index has %+v and %+v", all, overAll, err, c, over)
	}
}

func TestSweepingUnderLoadLosesNothing(t *testing.T) {
	const dests = 3_000
	rounds := scaled(150)
	for _, ring := range []uint32{4096, 1 << 20} {
		f := newFixture(t, func(o *Options) { o.RingBytes = ring; o.FlowEntries = 2048 })
		f.putPolicy(t, 1, table("127.16.0.0/22"), 1)
		f.manage(t, 1, State{Mode: policy.ModeLearn, Slot: 1, HostNetwork: true})
		l := newLedger()
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { l.rounds(ctx, t, f.Gate) })
		o := flood(t, 2, dests, rounds)
		stop()
		wg.Wait()
		l.settle(t, f.Gate)
		c := l.check(t, f.Gate, 1)
		if o.refused != 0 || c.Total() != uint64(dests*rounds) || c.Allow != uint64(1024*rounds) {
			t.Errorf("ring of %d: %+v, sends %+v", ring, c, o)
		}
	}
}

func TestANoisyContainerDoesNotHideAnothersDenials(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.RingBytes = 4096; o.FlowEntries = 64 })
	f.manage(t, 1, State{Mode: policy.ModeBlock, HostNetwork: true})
	flood(t, 2, 5_000, 1)
	f.manage(t, 2, State{Mode: policy.ModeBlock, HostNetwork: true})
	flood(t, 1, 10, 1)
	l := newLedger()
	l.settle(t, f.Gate)
	l.check(t, f.Gate, 1)
	if c := l.check(t, f.Gate, 2); c.Deny != 10 {
		t.Errorf("the quiet container has %+v, want 10 denials", c)
	}
}

func TestARingThatIsNeverReadStopsNobody(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.RingBytes = 4096 })
	f.putPolicy(t, 1, table("127.16.0.0/28"), 1)
	f.manage(t, 1, State{Mode: policy.ModeBlock, Slot: 1, HostNetwork: true})
	if o := flood(t, 2, 1000, 20); o.passed != 16*20 || o.refused != 984*20 {
		t.Errorf("verdicts under a full ring: %+v", o)
	}
	for range 3 {
		r, err := f.Sweep()
		if err != nil {
			t.Fatal(err)
		}
		if !r.RingFull || r.Left == 0 {
			t.Errorf("sweep into a full ring: %+v", r)
		}
	}
	l := newLedger()
	l.settle(t, f.Gate)
	l.check(t, f.Gate, 1)
}
