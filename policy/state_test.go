package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egresswarden/egresswarden/schemas"
)

func added(lines ...string) func(testing.TB) *schemas.PolicyEvent {
	return func(t testing.TB) *schemas.PolicyEvent {
		return &schemas.PolicyEvent{Policy: "web", Change: &schemas.PolicyEvent_RuleAdded{
			RuleAdded: &schemas.RuleAdded{Rules: WireRules(mustRules(t, lines...))}}}
	}
}

func opened(p *schemas.Proposal, lines ...string) func(testing.TB) *schemas.PolicyEvent {
	return func(t testing.TB) *schemas.PolicyEvent {
		for _, r := range mustRules(t, lines...) {
			p.Rules = append(p.Rules, &schemas.ProposedRule{Rule: r.Wire()})
		}
		return &schemas.PolicyEvent{Policy: "web", Change: &schemas.PolicyEvent_ProposalOpened{
			ProposalOpened: &schemas.ProposalOpened{Proposal: p}}}
	}
}

func event(change *schemas.PolicyEvent) func(testing.TB) *schemas.PolicyEvent {
	change.Policy = "web"
	return func(testing.TB) *schemas.PolicyEvent { return change }
}

func TestEventsWithoutEffectAreRefusedWithTheReason(t *testing.T) {
	type build = func(testing.TB) *schemas.PolicyEvent
	p1 := func() build {
		return opened(&schemas.Proposal{Id: "p1", Action: "add", Evidence: "e"}, "10.0.0.1 tcp/443")
	}
	approve := func(evidence, line string, basedOn uint64) build {
		return func(t testing.TB) *schemas.PolicyEvent {
			return &schemas.PolicyEvent{Policy: "web", BasedOn: basedOn, Change: &schemas.PolicyEvent_ProposalApproved{
				ProposalApproved: &schemas.ProposalApproved{Id: "p1", Evidence: evidence, Rules: WireRules(mustRules(t, line))}}}
		}
	}
	reject := func(id, evidence string) build {
		return event(&schemas.PolicyEvent{Change: &schemas.PolicyEvent_ProposalRejected{
			ProposalRejected: &schemas.ProposalRejected{Id: id, Evidence: evidence}}})
	}
	supersede := event(&schemas.PolicyEvent{Change: &schemas.PolicyEvent_ProposalSuperseded{
		ProposalSuperseded: &schemas.ProposalSuperseded{Id: "p1", By: "p2"}}})
	for _, c := range []struct {
		name   string
		events []build
		want   string
	}{
		{"unknown kind", []build{event(&schemas.PolicyEvent{})}, "an event of a kind that this version does not know"},
		{"bad rule", []build{event(&schemas.PolicyEvent{Change: &schemas.PolicyEvent_RuleAdded{RuleAdded: &schemas.RuleAdded{
			Rules: []*schemas.Rule{{Text: "10.0.0.1/8"}}}}})}, `rule "10.0.0.1/8": column 1: 10.0.0.1/8 has host bits`},
		{"no rule", []build{added()}, "no rule to add"},
		{"rule from a file", []build{event(&schemas.PolicyEvent{Change: &schemas.PolicyEvent_RuleAdded{RuleAdded: &schemas.RuleAdded{
			Rules: []*schemas.Rule{{Text: "10.0.0.1", Origin: "file"}}}}})}, "rule 10.0.0.1/32: a rule from a file is changed"},
		{"rule that is there", []build{added("10.0.0.1"), added("10.0.0.1")}, "the rules are there already"},
		{"unknown rule", []build{event(&schemas.PolicyEvent{Change: &schemas.PolicyEvent_RuleRemoved{
			RuleRemoved: &schemas.RuleRemoved{Ids: []string{"00000abc"}}}})}, "policy web has no rule 00000abc"},
		{"rollback to the future", []build{event(&schemas.PolicyEvent{Change: &schemas.PolicyEvent_RolledBack{
			RolledBack: &schemas.RolledBack{ToRevision: 1}}})}, "revision 1 is not in the past"},
		{"rollback without effect", []build{added("10.0.0.1"), event(&schemas.PolicyEvent{Change: &schemas.PolicyEvent_RolledBack{
			RolledBack: &schemas.RolledBack{ToRevision: 1}}})}, "policy web is as it was at revision 1"},
		{"mode beyond the known", []build{event(&schemas.PolicyEvent{Change: &schemas.PolicyEvent_ModeSet{
			ModeSet: &schemas.ModeSet{Workload: "w", Mode: 256}}})}, "mode 256 is unknown"},
		{"no workload", []build{event(&schemas.PolicyEvent{Change: &schemas.PolicyEvent_ModeSet{
			ModeSet: &schemas.ModeSet{Mode: 3}}})}, "the event names no workload"},
		{"proposal without rules", []build{opened(&schemas.Proposal{Id: "p1", Action: "add"})}, "proposal p1 has no rules"},
		{"proposal opened twice", []build{p1(), p1()}, "proposal p1 was opened before and is open"},
		{"other evidence", []build{p1(), approve("old", "10.0.0.1 tcp/443", 1)}, "proposal p1 rests on other evidence than was seen"},
		{"rule not proposed", []build{p1(), approve("e", "10.0.0.0/8", 1)}, "proposal p1 does not have the rule 10.0.0.0/8"},
		{"stale approval", []build{p1(), added("10.9.0.0/16"), approve("e", "10.0.0.1 tcp/443", 1)},
			"proposal p1: the policy changed at revision 2, after revision 1 that was seen"},
		{"approved twice", []build{p1(), approve("e", "10.0.0.1 tcp/443", 1), approve("e", "10.0.0.1 tcp/443", 2)},
			"proposal p1 is approved since revision 2"},
		{"superseded", []build{p1(), supersede, approve("e", "10.0.0.1 tcp/443", 2)}, "proposal p1 is superseded by p2"},
		{"rejected, then the same evidence", []build{p1(), reject("p1", "e"), p1()}, "proposal p1 was opened before and is rejected"},
		{"unknown proposal", []build{reject("p7", "e")}, "policy web has no proposal p7"},
	} {
		s := NewState()
		var last Outcome
		for i, e := range c.events {
			last = s.Apply(uint64(i+1), e(t))
			if i < len(c.events)-1 && last.Refused != "" {
				t.Errorf("%s: event %d refused: %s", c.name, i+1, last.Refused)
			}
		}
		if !strings.HasPrefix(last.Refused, c.want) {
			t.Errorf("%s: refused %q, want %q", c.name, last.Refused, c.want)
		}
		if r := s.Refusals(); len(r) != 1 || r[0].Reason != last.Refused || r[0].Revision != last.Revision {
			t.Errorf("%s: refusals %v", c.name, r)
		}
	}
}

func TestRejectedProposalOpensAgainWithOtherEvidence(t *testing.T) {
	s := NewState()
	s.Apply(1, opened(&schemas.Proposal{Id: "p", Action: "add", Evidence: "1"}, "10.0.0.1")(t))
	s.Apply(2, event(&schemas.PolicyEvent{Change: &schemas.PolicyEvent_ProposalRejected{
		ProposalRejected: &schemas.ProposalRejected{Id: "p", Evidence: "1"}}})(t))
	if p, _ := s.Proposal("p"); p.Status != StatusRejected || len(p.Decided) != 1 {
		t.Errorf("proposal %+v", p)
	}
	o := s.Apply(3, opened(&schemas.Proposal{Id: "p", Action: "add", Evidence: "2"}, "10.0.0.1")(t))
	if p, _ := s.Proposal("p"); o.Refused != "" || p.Status != StatusOpen || p.Opened != 3 {
		t.Errorf("refused %q, proposal %+v", o.Refused, p)
	}
}

func TestApprovedRemovalTakesTheRuleAway(t *testing.T) {
	s := NewState()
	s.Apply(1, added("10.0.0.1", "10.0.0.2")(t))
	s.Apply(2, opened(&schemas.Proposal{Id: "p", Action: "remove", Evidence: "1"}, "10.0.0.1")(t))
	gone := mustRules(t, "10.0.0.1", "10.0.0.2")
	for i, c := range []struct{ id, refused string }{
		{gone[1].ID, "proposal p does not have the rule " + gone[1].ID}, {gone[0].ID, ""},
	} {
		o := s.Apply(uint64(3+i), event(&schemas.PolicyEvent{BasedOn: 2, Change: &schemas.PolicyEvent_ProposalApproved{
			ProposalApproved: &schemas.ProposalApproved{Id: "p", Evidence: "1", RemovedIds: []string{c.id}}}})(t))
		if o.Refused != c.refused {
			t.Errorf("removal of %s: refused %q, want %q", c.id, o.Refused, c.refused)
		}
	}
	if got := fmt.Sprint(s.Policy("web").Rules[0], len(s.Policy("web").Rules)); got != "10.0.0.2/32 1" {
		t.Errorf("rules left: %s", got)
	}
}

func TestEffectiveRulesAreOwnAndEveryonesUntilTheyExpire(t *testing.T) {
	s := NewState()
	s.Apply(1, added("10.0.0.1")(t))
	everyone := added("deny 169.254.169.254")(t)
	everyone.Policy = Everyone
	s.Apply(2, everyone)
	timed := mustRules(t, "10.0.0.2")[0]
	timed.Expires = noon
	s.Apply(3, &schemas.PolicyEvent{Policy: "web", Change: &schemas.PolicyEvent_RuleAdded{
		RuleAdded: &schemas.RuleAdded{Rules: []*schemas.Rule{timed.Wire()}}}})
	for _, c := range []struct {
		policy string
		now    time.Time
		want   string
		rev    uint64
	}{
		{"web", noon.Add(-1), "[10.0.0.1/32 10.0.0.2/32 deny 169.254.169.254/32]", 3},
		{"web", noon, "[10.0.0.1/32 deny 169.254.169.254/32]", 3},
		{"other", noon, "[deny 169.254.169.254/32]", 2},
		{Everyone, noon, "[deny 169.254.169.254/32]", 2},
	} {
		got := s.Effective(c.policy, c.now)
		if fmt.Sprint(got.Rules) != c.want || got.Revision != c.rev {
			t.Errorf("%s at %s: %v at %d, want %s at %d", c.policy, c.now, got.Rules, got.Revision, c.want, c.rev)
		}
	}
	if next, ok := s.NextExpiry(noon.Add(-time.Hour)); !ok || !next.Equal(noon) {
		t.Errorf("next expiry %v %v", next, ok)
	}
	if next, ok := s.NextExpiry(noon); ok {
		t.Errorf("next expiry %v after the last", next)
	}
}

func TestLastModeCountsAcrossPolicies(t *testing.T) {
	s := NewState()
	for i, c := range []struct {
		policy string
		mode   schemas.Mode
	}{{"a", schemas.Mode_MODE_BLOCK}, {"b", schemas.Mode_MODE_LEARN}, {"a", schemas.Mode_MODE_ALLOW}, {"b", schemas.Mode_MODE_UNSPECIFIED}} {
		o := s.Apply(uint64(i+1), &schemas.PolicyEvent{Policy: c.policy, Change: &schemas.PolicyEvent_ModeSet{
			ModeSet: &schemas.ModeSet{Workload: "w", Mode: c.mode}}})
		got, ok := s.Mode("w")
		if o.Refused != "" || got.Mode != Mode(c.mode) || ok != (c.mode != 0) {
			t.Errorf("after %v: %+v %v (%s)", c, got, ok, o.Refused)
		}
	}
	if got := s.Modes(); len(got) != 0 {
		t.Errorf("overrides left: %v", got)
	}
}

func TestTheLastChangeSaysWhatIsKept(t *testing.T) {
	s := NewState()
	apply := func(rev uint64, keep bool, build func(testing.TB) *schemas.PolicyEvent) Effect {
		e := build(t)
		e.KeepEstablished = keep
		s.Apply(rev, e)
		return s.LastEffect("web")
	}
	for _, c := range []struct {
		what string
		got  Effect
		want Effect
	}{
		{"before any", s.LastEffect("web"), Effect{}},
		{"a rule", apply(1, true, added("10.0.0.1")), Effect{1, true}},
		{"the same rule again", apply(2, false, added("10.0.0.1")), Effect{1, true}},
		{"a proposal", apply(3, false, opened(&schemas.Proposal{Id: "p1", Action: "add", Evidence: "e"}, "10.0.0.2")), Effect{1, true}},
		{"another rule", apply(4, false, added("10.0.0.3")), Effect{4, false}},
	} {
		if c.got != c.want {
			t.Errorf("%s: %+v, want %+v", c.what, c.got, c.want)
		}
	}
}

func TestImportReplacesItsOwnLayerOnly(t *testing.T) {
	imported := func(fromFile bool, lines ...string) *schemas.PolicyEvent {
		return &schemas.PolicyEvent{Policy: "web", Change: &schemas.PolicyEvent_RulesImported{RulesImported: &schemas.RulesImported{
			Rules: WireRules(mustRules(t, lines...)), File: "f", Sha256: "h", FromFile: fromFile}}}
	}
	s := NewState()
	for i, c := range []struct {
		event *schemas.PolicyEvent
		want  string
	}{
		{imported(true, "10.0.0.2", "10.0.0.1"), "[10.0.0.2/32 10.0.0.1/32]"},
		{added("10.0.0.1", "10.0.0.3")(t), "[10.0.0.2/32 10.0.0.1/32 10.0.0.1/32 10.0.0.3/32]"},
		{imported(true, "10.0.0.4"), "[10.0.0.4/32 10.0.0.1/32 10.0.0.3/32]"},
		{imported(false, "10.0.0.3", "10.0.0.5"), "[10.0.0.4/32 10.0.0.3/32 10.0.0.5/32]"},
		{imported(true), "[10.0.0.3/32 10.0.0.5/32]"},
	} {
		s.Apply(uint64(i+1), c.event)
		if got := fmt.Sprint(s.Policy("web").Rules); got != c.want {
			t.Errorf("after event %d: %s, want %s", i+1, got, c.want)
		}
	}
	if got := s.Imported("web"); got != (Import{"f", "h", 5}) {
		t.Errorf("imported %+v", got)
	}
}

func TestSnapshotOfAnotherFormatIsRefused(t *testing.T) {
	for _, data := range []string{`{"format":99}`, `nonsense`, `{"format":1,"policies":{"a":{"operator":[{"id":"zz","text":"10.0.0.1"}]}}}`} {
		if s, err := DecodeState([]byte(data)); err == nil || s != nil {
			t.Errorf("%s: decoded", data)
		}
	}
}

func TestWireKeepsTheRule(t *testing.T) {
	r := mustRules(t, "deny 10.0.0.0/8 tcp/80 # why")[0]
	r.Owner, r.Origin, r.Source, r.Expires = "ann", OriginFile, "f:1", noon
	got, err := FromWire(r.Wire())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fmt.Sprintf("%+v", r), fmt.Sprintf("%+v", got)); diff != "" {
		t.Error(diff)
	}
	if _, err := FromWire(&schemas.Rule{Text: "10.0.0.1", Origin: "moon"}); err == nil {
		t.Error("an unknown origin is read")
	}
}

func BenchmarkEffectiveAndCompile(b *testing.B) {
	s := NewState()
	s.Apply(1, &schemas.PolicyEvent{Policy: "web", Change: &schemas.PolicyEvent_RuleAdded{
		RuleAdded: &schemas.RuleAdded{Rules: WireRules(manyRules(b, 10_000, true))}}})
	for b.Loop() {
		if _, err := Compile(s.Effective("web", noon).Rules, noon); err != nil {
			b.Fatal(err)
		}
	}
}
