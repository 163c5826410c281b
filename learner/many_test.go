package learner

import (
	"fmt"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// TestTenThousandOpenProposalsStayAsTheyAre holds that what is open once is
// neither opened again nor withdrawn, here, after a restart, and when one of
// them is decided.
func TestTenThousandOpenProposalsStayAsTheyAre(t *testing.T) {
	const policies, each = 20, 500
	b := newBench(t)
	var log []*schemas.PolicyEvent
	for n := range policies {
		var flows []*schemas.Flow
		for i := range each {
			name := fmt.Sprint("web-", n)
			flows = append(flows, flow(fmt.Sprintf("10.%d.%d.%d", n, i/2, i%2*128+1), 443, func(f *schemas.Flow) { f.Policy, f.Workload = name, name }))
		}
		b.flows(flows...)
	}
	began := time.Now()
	events, err := b.Plan(noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		log = append(log, e)
		if o := b.event(e); o.Refused != "" {
			t.Fatal(o.Refused)
		}
	}
	t.Logf("planned and folded %d proposals in %s", len(events), time.Since(began))
	if n := len(b.State().Proposals("", policy.StatusOpen)); n != policies*each {
		t.Fatalf("%d proposals are open, want %d", n, policies*each)
	}
	settled := func(when string, l *Learner) {
		t.Helper()
		if events, err := l.Plan(noon); err != nil || len(events) != 0 {
			t.Fatalf("%s: %d events are planned, %v; want none", when, len(events), err)
		}
	}
	settled("planned again", b.Learner)
	data, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(Options{}, data)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range log {
		again.Policy(uint64(i)+1, e)
	}
	settled("restarted", again)
	if n := b.approve("web-7"); n != each {
		t.Errorf("%d were approved, want %d", n, each)
	}
	settled("after the approvals", b.Learner)
	if n := len(b.State().Proposals("", policy.StatusOpen)); n != (policies-1)*each {
		t.Errorf("%d proposals are open, want %d", n, (policies-1)*each)
	}
}
