package learner

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egresswarden/egresswarden/schemas"
)

func TestReadinessNamesItsReasons(t *testing.T) {
	const day = 24 * time.Hour
	b := newBench(t)
	b.flows(flow("192.0.2.1", 443), flow("", 0, func(f *schemas.Flow) { f.Reason, f.Count = schemas.ReasonOverflow, 7 }))
	r, err := b.Readiness(noon.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"1 destinations are allowed by no rule", "seen on 1 days, want 7",
		"1 start observed, want 2: what runs only at start may be missing",
		"a destination was new 1h0m0s ago, want 72h0m0s without", "7 decisions are known without their destination"}
	if diff := cmp.Diff(want, r[0].Reasons); diff != "" || r[0].Ready {
		t.Errorf("ready %v: %s", r[0].Ready, diff)
	}
	for d := 1; d < 60; d++ {
		b.flows(flow("192.0.2.1", 443, after(time.Duration(d)*day), func(f *schemas.Flow) { f.ContainerId = fmt.Sprint("c", d%3) }))
	}
	b.plan(noon.Add(60 * day))
	b.approve("web")
	if r, err = b.Readiness(noon.Add(60 * day)); err != nil || !r[0].Ready {
		t.Errorf("after 60 days: %+v (%v)", r[0], err)
	}
}

func TestLossesLowerReadinessWhereTheWorkloadWas(t *testing.T) {
	const day = 24 * time.Hour
	host := func(name string) func(*schemas.Flow) { return func(f *schemas.Flow) { f.Host = name } }
	lost := func(kind, host string, d time.Duration) *schemas.HostEvent {
		return &schemas.HostEvent{TimeNs: noon.Add(d).UnixNano(), Host: host, Kind: kind, Count: 5}
	}
	b := newBench(t)
	for d := range 40 {
		b.flows(flow("192.0.2.1", 443, after(time.Duration(d)*day), func(f *schemas.Flow) { f.ContainerId = fmt.Sprint("c", d%3) }))
	}
	b.plan(noon.Add(40 * day))
	b.approve("web")
	reasons := func(now time.Time) []string {
		t.Helper()
		r, err := b.Readiness(now)
		if err != nil || len(r) != 1 || r[0].Ready != (len(r[0].Reasons) == 0) {
			t.Fatalf("%+v, %v", r, err)
		}
		return append([]string{}, r[0].Reasons...)
	}
	unknown := func(f *schemas.Flow) { f.Workload, f.Policy, f.Count = "unknown", "", 9 }
	b.Host(lost("outbox.full", "h2", 39*day))
	b.Host(lost("docker.lost", "h1", 39*day))
	b.flows(flow("192.0.2.99", 80, after(39*day), unknown, host("h2")))
	if got := reasons(noon.Add(40 * day)); len(got) > 0 {
		t.Fatalf("not ready for what was elsewhere: %v", got)
	}
	for range 2 { // as after a restart
		b.Host(lost("outbox.full", "h1", 38*day))
		b.Host(lost("outbox.full", "h1", 39*day))
		b.Host(lost("hostevents.dropped", "h1", 39*day))
		b.Host(lost("gate.detached", "h1", 39*day))
	}
	b.flows(flow("192.0.2.99", 80, after(39*day), unknown))
	want := []string{
		"the gate of host h1 was taken off: nothing was recorded there", "5 events of host h1 were lost: they may have told of a loss",
		"10 recorded decisions of host h1 were thrown away, as the event log was full",
		"9 decisions on host h1 were of unknown containers, perhaps of this workload",
	}
	if diff := cmp.Diff(want, reasons(noon.Add(40*day))); diff != "" {
		t.Error(diff)
	}
	data, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(Options{}, data)
	if err != nil {
		t.Fatal(err)
	}
	if got := again.lossesOf(again.evidence.workloads["web"], 0); len(got) != 1 || got[0] != want[3] {
		t.Errorf("of the snapshot: %v", got)
	}
	if got := reasons(noon.Add(100 * day)); slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "host h1") }) {
		t.Errorf("told long afterwards: %v", got)
	}
	b.plan(noon.Add(100 * day))
	b.Host(lost("outbox.full", "h1", 101*day))
	if n := b.told[lossKey{"h1", "outbox.full"}]; n.Count != 5 {
		t.Errorf("%d are lost, want the 5 of these days", n.Count)
	}
}

func TestNoRuleIsCalledUnusedWhereTrafficWasLost(t *testing.T) {
	const day = 24 * time.Hour
	b := newBench(t)
	b.rules("web", "192.0.2.1", "192.0.2.2")
	used := b.State().Policy("web").Rules[1]
	for d := range 35 {
		b.flows(flow("192.0.2.2", 443, after(time.Duration(d)*day), func(f *schemas.Flow) {
			f.Verdict, f.Rule = schemas.Verdict_VERDICT_ALLOW, used.Number()
		}))
	}
	b.Host(&schemas.HostEvent{TimeNs: noon.Add(30 * day).UnixNano(), Host: "h1", Kind: "outbox.full", Count: 1})
	b.plan(noon.Add(35 * day))
	if open := b.open("web"); len(open) > 0 {
		t.Errorf("proposed %v, though the rule may have been used", open)
	}
}
