package learner

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// flow is a would-be denial of the workload web on host h1.
func flow(dst string, port uint16, change ...func(*schemas.Flow)) *schemas.Flow {
	f := &schemas.Flow{TimeNs: noon.UnixNano(), Host: "h1", Verdict: schemas.Verdict_VERDICT_WOULD_DENY, Count: 1, Workload: "web",
		Policy: "web", Mode: schemas.Mode_MODE_LEARN, Proto: 6, DstPort: uint32(port), Comm: "curl", ContainerId: "c1"}
	if dst != "" {
		f.DstIp = netip.MustParseAddr(dst).AsSlice()
	}
	for _, c := range change {
		c(f)
	}
	return f
}

func times(n uint64) func(*schemas.Flow) { return func(f *schemas.Flow) { f.Count = n } }

func after(d time.Duration) func(*schemas.Flow) {
	return func(f *schemas.Flow) { f.TimeNs += int64(d) }
}

func by(comm string) func(*schemas.Flow) { return func(f *schemas.Flow) { f.Comm = comm } }

// bench gives a learner its events, numbers them, and does what operators do.
type bench struct {
	*Learner
	tb       failer
	sequence uint64
}

// failer is a test or a property.
type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func newBench(tb failer) *bench { return &bench{New(Options{}), tb, 0} }

func (b *bench) flows(flows ...*schemas.Flow) {
	b.sequence++
	b.Flows(b.sequence, flows)
}

func (b *bench) event(e *schemas.PolicyEvent) policy.Outcome {
	return b.Policy(b.State().Revision()+1, e)
}

func (b *bench) rules(name string, lines ...string) {
	b.tb.Helper()
	add := &schemas.RuleAdded{}
	for _, line := range lines {
		r, err := policy.ParseRule(line)
		if err != nil {
			b.tb.Fatal(err)
		}
		add.Rules = append(add.Rules, r.Wire())
	}
	e := &schemas.PolicyEvent{Policy: name, TimeNs: noon.UnixNano(), Change: &schemas.PolicyEvent_RuleAdded{RuleAdded: add}}
	if o := b.event(e); o.Refused != "" {
		b.tb.Fatal(o.Refused)
	}
}

// plan appends what the learner plans, until it plans nothing more.
func (b *bench) plan(now time.Time) {
	b.tb.Helper()
	for range 3 {
		events, err := b.Plan(now)
		if err != nil {
			b.tb.Fatal(err)
		}
		if len(events) == 0 {
			return
		}
		for _, e := range events {
			if o := b.event(e); o.Refused != "" {
				b.tb.Fatalf("%s: %s", policy.Describe(e), o.Refused)
			}
		}
	}
	b.tb.Fatal("the plan does not settle")
}

// open lists the open proposals as "action rule flags".
func (b *bench) open(name string) []string {
	out := []string{}
	for _, p := range b.State().Proposals(name, policy.StatusOpen) {
		e := p.Body.Rules[0]
		out = append(out, fmt.Sprint(p.Body.Action, " ", e.Rule.Text, " ", e.Flags))
	}
	return out
}

func (b *bench) approve(name string) int {
	b.tb.Helper()
	open := b.State().Proposals(name, policy.StatusOpen)
	for _, p := range open {
		m := &schemas.ProposalApproved{Id: p.ID, Evidence: p.Body.Evidence}
		if p.Body.Action == "add" {
			m.Rules = []*schemas.Rule{p.Body.Rules[0].Rule}
		} else {
			m.RemovedIds = []string{p.Body.Rules[0].Rule.Id}
		}
		if o := b.event(&schemas.PolicyEvent{Policy: name, BasedOn: b.State().Revision(), TimeNs: noon.UnixNano(),
			Change: &schemas.PolicyEvent_ProposalApproved{ProposalApproved: m}}); o.Refused != "" {
			b.tb.Fatal(o.Refused)
		}
	}
	return len(open)
}

func (b *bench) reject(name string) {
	b.tb.Helper()
	for _, p := range b.State().Proposals(name, policy.StatusOpen) {
		if o := b.event(&schemas.PolicyEvent{Policy: name, Change: &schemas.PolicyEvent_ProposalRejected{
			ProposalRejected: &schemas.ProposalRejected{Id: p.ID, Evidence: p.Body.Evidence}}}); o.Refused != "" {
			b.tb.Fatal(o.Refused)
		}
	}
}
