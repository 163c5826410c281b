package eventlog

import (
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/egresswarden/egresswarden/schemas"
)

// smallServer has a stream of flows that holds a few hundred of the test's.
func smallServer(t *testing.T) *Server {
	return startServer(t, func(o *ServerOptions) { o.MaxFlowBytes = 128 << 10 })
}

// writeSingly puts each flow into a message of its own; deny says which are
// denials.
func writeSingly(t *testing.T, w *FlowWriter, first, last int, deny func(int) bool) {
	t.Helper()
	for n := first; n < last; n++ {
		f := flow(n)
		if deny(n) {
			f.Verdict = schemas.Verdict_VERDICT_DENY
		}
		if err := w.Write(testContext(t), []*schemas.Flow{f}, uint64(n+1)*stride); err != nil {
			t.Fatal(err)
		}
		flush(t, w)
	}
}

// lost sums what the host events tell of.
func lost(t *testing.T, l *Log) (flows, count uint64) {
	t.Helper()
	for _, e := range collect(t, l.HostEvents(testContext(t), HostQuery{Host: testHost})) {
		if e.GetKind() != schemas.KindOutboxFull {
			continue
		}
		n, err := strconv.ParseUint(e.GetDetail()["flows"], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		flows, count = flows+n, count+e.GetCount()
	}
	return flows, count
}

func TestAFullStreamThrowsAllowedFlowsAwayFirstAndTells(t *testing.T) {
	l := connect(t, smallServer(t).Options())
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	denied := func(n int) bool { return n%10 == 0 }
	const last = 500
	writeSingly(t, w, 0, last, denied)

	kept := collect(t, l.Flows(testContext(t), FlowQuery{}))
	flows, count := lost(t, l)
	if flows == 0 || flows != count || len(kept)+int(flows) != last {
		t.Fatalf("%d flows kept, %d told as lost with %d decisions, of %d", len(kept), flows, count, last)
	}
	denials := 0
	for _, f := range kept {
		if f.GetVerdict() == schemas.Verdict_VERDICT_DENY {
			denials++
		}
	}
	if denials != last/10 {
		t.Errorf("%d denials kept, want all %d", denials, last/10)
	}
	if !slices.IsSortedFunc(kept, func(a, b *schemas.Flow) int { return int(a.GetTimeNs() - b.GetTimeNs()) }) {
		t.Errorf("kept flows out of order: %s", ids(kept))
	}
}

func TestAStreamFullOfDenialsThrowsTheOldestAway(t *testing.T) {
	l := connect(t, smallServer(t).Options())
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	const last = 500
	writeSingly(t, w, 0, last, func(int) bool { return true })
	kept := collect(t, l.Flows(testContext(t), FlowQuery{}))
	flows, _ := lost(t, l)
	if flows == 0 || len(kept)+int(flows) != last {
		t.Fatalf("%d flows kept, %d told as lost, of %d", len(kept), flows, last)
	}
	for i, f := range kept {
		if want := flow(int(flows) + i).GetId(); f.GetId() != want {
			t.Fatalf("flow %d kept is %s, want %s: not the newest are kept", i, f.GetId(), want)
		}
	}
}

func TestAnInterruptedRemovalIsEndedOnResume(t *testing.T) {
	l := connect(t, startServer(t).Options())
	w := l.FlowWriter(testHost, testBoot)
	writeSingly(t, w, 0, 10, func(int) bool { return false })
	w.Close()
	// The process died between the event and the removal.
	v := victims{sequences: []uint64{2, 3, 4, 7}, flows: 4, tally: tally{allow: 4}}
	if err := l.PublishHost(testContext(t), lossEvent(testHost, v)); err != nil {
		t.Fatal(err)
	}
	next := l.FlowWriter(testHost, testBoot)
	defer next.Close()
	if position, ok, err := next.Resume(testContext(t)); err != nil || !ok || position != 10*stride {
		t.Fatalf("resume: %d, %v, %v", position, ok, err)
	}
	got := ids(collect(t, l.Flows(testContext(t), FlowQuery{})))
	if want := "0 4 5 7 8 9 "; got != want {
		t.Errorf("kept %s, want %s", got, want)
	}
}

func TestAnotherHostsFlowsAreNotThrownAway(t *testing.T) {
	l := connect(t, smallServer(t).Options())
	other := l.FlowWriter("other", testBoot)
	defer other.Close()
	writeSingly(t, other, 0, 50, func(int) bool { return false })
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	writeSingly(t, w, 0, 500, func(int) bool { return true })
	if got := collect(t, l.Flows(testContext(t), FlowQuery{Host: "other"})); len(got) != 50 {
		t.Errorf("%d flows of the other host kept, want 50", len(got))
	}
}

func TestSequencesComeBack(t *testing.T) {
	for _, want := range [][]uint64{{1}, {1, 2}, {1, 2, 3, 5}, {7, 9, 10, 11, 20}} {
		got, err := parseSequences(formatSequences(want))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v, %v", formatSequences(want), diff, err)
		}
	}
	for _, text := range []string{"", "x", "3-1", "1-99999999999", "1,,2", "-"} {
		if got, err := parseSequences(text); err == nil {
			t.Errorf("%q gives %v", text, got)
		}
	}
}
