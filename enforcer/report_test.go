package enforcer

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/policy"
)

// kinds are the host events of the log by kind, with the sum of their counts.
func kinds(t *testing.T, l *eventlog.Log) map[string]uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Long)
	defer cancel()
	found := map[string]uint64{}
	for ev, err := range l.HostEvents(ctx, eventlog.HostQuery{}) {
		if err != nil {
			t.Fatal(err)
		}
		found[ev.GetKind()] += max(ev.GetCount(), 1)
	}
	return found
}

func TestAFloodOfHostEventsIsBoundedAndItsLossIsCounted(t *testing.T) {
	st := newStation(t)
	const lost = 77
	for range reportQueue + lost {
		st.report.add(hostEvent{Kind: "flood", Severity: "info", Message: "flood"})
	}
	background(t, func(ctx context.Context) error { return st.report.run(ctx, st.events) })
	eventually(t, "the queue is empty", func() bool { return len(st.report.queue) == 0 && st.report.dropped.Load() == 0 })
	eventually(t, "everything is told or counted", func() bool {
		found := kinds(t, st.events)
		return found["flood"] == reportQueue && found["hostevents.dropped"] == lost
	})
}

func TestAProblemIsNewsOnce(t *testing.T) {
	var p problems
	a, b := errors.New("a"), errors.New("b")
	for i, step := range []struct {
		err  error
		news bool
	}{{nil, false}, {a, true}, {a, false}, {b, true}, {nil, true}, {nil, false}} {
		if got := p.set("key", step.err); got != step.news {
			t.Errorf("step %d: news %v, want %v", i, got, step.news)
		}
	}
	p.set("y", a)
	p.set("x", b)
	if got := p.list(); len(got) != 2 || got[0] != "x: b" || got[1] != "y: a" {
		t.Errorf("list %v", got)
	}
}

func TestNoHandlerRunsBehindAClosedDoor(t *testing.T) {
	d := &door{}
	entered, leave := make(chan bool), make(chan bool)
	slow := d.guard(func(context.Context, []byte) ([]byte, error) {
		close(entered)
		<-leave
		return nil, nil
	})
	inside := make(chan error, 1)
	go func() { _, err := slow(t.Context(), nil); inside <- err }()
	<-entered
	closed := make(chan bool)
	go func() { d.close(); close(closed) }()
	select {
	case <-closed:
		t.Fatal("the door closed on a handler")
	default:
	}
	close(leave)
	<-closed
	if err := <-inside; err != nil {
		t.Error(err)
	}
	if _, err := d.guard(func(context.Context, []byte) ([]byte, error) { t.Error("let in"); return nil, nil })(t.Context(), nil); !errors.Is(err, errEnding) {
		t.Errorf("%v, want errEnding", err)
	}
}

func TestAPolicyThatDoesNotFitIsToldOnceAndTriedAgain(t *testing.T) {
	k := newFakeKernel()
	r, ev := newTestRegistry(t, k)
	put(t, r, labelled("a", "block"))
	setPolicies(t, r, policySet{})
	k.full = true
	now := time.Now()
	if _, err := r.SetPolicies(policySet{Rules: map[string][]policy.Rule{"name-a": rules(t, "192.0.2.0/24")}}, now); err == nil {
		t.Fatal("a table that does not fit is no error")
	}
	for i := range 5 {
		if now = now.Add(tryAgain); !r.expired(now) {
			t.Fatalf("try %d: nobody would try again", i)
		}
		_, _ = r.refresh(now)
		if r.expired(now) {
			t.Fatalf("try %d: tried again at once", i)
		}
	}
	if n := ev.count("policy.invalid"); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
	k.full = false
	if _, err := r.refresh(now.Add(tryAgain)); err != nil || !allows(k, "a") {
		t.Errorf("the policy that fits now is not in force: %v", err)
	}
	if r.expired(now.Add(1000 * tryAgain)) {
		t.Error("what is in force is tried for ever")
	}
}

func TestTheEndOfATimedRuleDoesNotUndoANewerPolicy(t *testing.T) {
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	put(t, r, labelled("a", "block"))
	now := time.Now()
	timed := rules(t, "198.51.100.0/24")
	timed[0].Expires = now.Add(time.Hour)
	setPolicies(t, r, policySet{Rules: map[string][]policy.Rule{"name-a": timed}})
	setPolicies(t, r, policySet{Rules: map[string][]policy.Rule{"name-a": append(timed, rules(t, "192.0.2.0/24")...)}})
	if _, err := r.refresh(now.Add(2 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	if !allows(k, "a") || r.expired(now.Add(3*time.Hour)) {
		t.Error("the newer policy is not in force")
	}
}

func TestWhatIsLeftOfARemovedContainerIsRefused(t *testing.T) {
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	now := time.Now()
	r.Now = func() time.Time { return now }
	put(t, r, labelled("a", "allow"))
	index := k.containers["a"]
	k.cgroups[4711] = index // a process that outlives its container
	if err := r.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if s := k.states[index]; s.Mode != policy.ModeBlock || s.Slot != 0 {
		t.Errorf("state %+v, want block without a policy", s)
	}
	for range 3 * sweepsToFree {
		now = now.Add(restToFree)
		r.Swept()
	}
	put(t, r, labelled("b", "learn"))
	if k.containers["b"] == index {
		t.Error("the index was given away while a cgroup carries it")
	}
	delete(k.cgroups, 4711)
	r.Swept()
	if _, ok := r.Lookup(index); !ok {
		t.Error("the index is free while the gate admits replies to its last process")
	}
	now = now.Add(restToFree)
	r.Swept()
	if _, ok := r.Lookup(index); ok {
		t.Error("the index is never free")
	}
}
