package bpf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/egresswarden/egresswarden/policy"
)

func TestReadReturnsWhatWasDecided(t *testing.T) {
	f := newFixture(t, nil)
	f.blockAll(t)
	events, next, err := f.Ring().Read(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != 1 {
		t.Fatalf("events: %v", events)
	}
	e, comm := events[0], filepath.Base(os.Args[0]) // the kernel keeps 15 bytes
	if e.Dst.String() != "127.16.0.0" || e.DstPort != 9 || e.Proto != policy.ProtoUDP || e.Verdict != policy.VerdictDeny ||
		e.Mode != policy.ModeBlock || e.Index != 1 || e.Count != 1 || e.Hook != HookSendmsg || e.Reason != ReasonNone ||
		e.PID != uint32(os.Getpid()) || e.UID != uint32(os.Getuid()) || e.Comm != comm[:min(15, len(comm))] {
		t.Errorf("event %+v", e)
	}
	if e.Time.IsZero() || e.CgroupID == 0 || e.Position >= next {
		t.Errorf("event %+v, next %d", e, next)
	}
}

func TestReadEndsWithItsContext(t *testing.T) {
	f := newFixture(t, nil)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, _, err := f.Ring().Read(ctx, 10)
		done <- err
	}()
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v", err)
	}
}

func TestWhatIsNotCommittedIsReadAgain(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.RingBytes = 4096 })
	f.manage(t, 1, State{Mode: policy.ModeBlock, HostNetwork: true})
	flood(t, 1, 20, 1)
	first, end := f.Ring().TryRead(100)
	if len(first) != 20 {
		t.Fatalf("%d events, want 20", len(first))
	}
	if err := f.Ring().Commit(first[5].Position); err != nil {
		t.Fatal(err)
	}
	again := openGate(t, f.o).Ring()
	rest, end2 := again.TryRead(100)
	ignoreTime := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Time" }, cmp.Ignore())
	addrs := cmp.Comparer(func(a, b fmt.Stringer) bool { return a.String() == b.String() })
	if diff := cmp.Diff(first[5:], rest, ignoreTime, addrs); diff != "" || end != end2 {
		t.Errorf("read again, end %d and %d:\n%s", end, end2, diff)
	}
	if err := again.Seek(first[10].Position); err != nil {
		t.Fatal(err)
	}
	if part, _ := again.TryRead(100); len(part) != 10 || part[0].Position != first[10].Position {
		t.Errorf("after seek: %d events", len(part))
	}
	for name, err := range map[string]error{
		"seek into a record":   again.Seek(first[10].Position + 8),
		"seek before the ring": again.Seek(first[0].Position),
		"seek after its end":   again.Seek(end + 128),
		"commit backwards":     again.Commit(first[0].Position),
		"commit beyond":        again.Commit(end + 128),
	} {
		if !errors.Is(err, ErrPosition) {
			t.Errorf("%s: %v, want ErrPosition", name, err)
		}
	}
	if err := again.Seek(end); err != nil {
		t.Errorf("seek the end: %v", err)
	}
}

func TestPositionsGrowRoundAndRoundTheRing(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.RingBytes = 4096; o.FlowEntries = 4096 })
	f.manage(t, 1, State{Mode: policy.ModeBlock, HostNetwork: true})
	last, sum := Position(0), 0
	for n := range 200 {
		if _, err := floodFrom(n*10, 1, n*10+10, 1); err != nil {
			t.Fatal(err)
		}
		events, next := f.Ring().TryRead(100)
		for _, e := range events {
			if sum > 0 && e.Position <= last {
				t.Fatalf("position %d after %d", e.Position, last)
			}
			if numberOf(e.Dst) != sum {
				t.Fatalf("event %d tells of %s", sum, e.Dst)
			}
			last = e.Position
			sum++
		}
		if err := f.Ring().Commit(next); err != nil {
			t.Fatal(err)
		}
	}
	if sum != 2000 || last < 10*4096 {
		t.Errorf("%d events to position %d", sum, last)
	}
}
