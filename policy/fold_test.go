package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/egresswarden/egresswarden/schemas"
)

// genLog draws a log in which events refer to what was there before, rightly
// or wrongly.
func genLog(t *rapid.T, most int) []Entry {
	var log []Entry
	s := NewState()
	for range rapid.IntRange(0, most).Draw(t, "events") {
		rev := s.Revision() + uint64(rapid.IntRange(1, 3).Draw(t, "gap"))
		e := genEvent(t, s, rev)
		s.Apply(rev, e)
		log = append(log, Entry{rev, e})
	}
	return log
}

func genEvent(t *rapid.T, s *State, rev uint64) *schemas.PolicyEvent {
	e := &schemas.PolicyEvent{Policy: rapid.SampledFrom([]string{"a", "b", Everyone}).Draw(t, "policy"), Actor: "ann",
		KeepEstablished: rapid.Bool().Draw(t, "keep")}
	ids := []string{"0000ffff"}
	for _, r := range s.Policy(e.Policy).Rules {
		ids = append(ids, r.ID)
	}
	id := rapid.SampledFrom(ids).Draw(t, "id")
	switch rapid.IntRange(0, 8).Draw(t, "kind") {
	case 0, 1:
		e.Change = &schemas.PolicyEvent_RuleAdded{RuleAdded: &schemas.RuleAdded{Rules: genWire(t)}}
	case 2:
		e.Change = &schemas.PolicyEvent_RuleRemoved{RuleRemoved: &schemas.RuleRemoved{Ids: []string{id}}}
	case 3:
		e.Change = &schemas.PolicyEvent_ModeSet{ModeSet: &schemas.ModeSet{
			Workload: rapid.SampledFrom([]string{"w", "x", ""}).Draw(t, "workload"),
			Mode:     schemas.Mode(rapid.IntRange(0, 4).Draw(t, "mode"))}}
	case 4:
		e.Change = &schemas.PolicyEvent_RulesImported{RulesImported: &schemas.RulesImported{Rules: genWire(t),
			File: "f.allow", Sha256: fmt.Sprint(rev), FromFile: rapid.Bool().Draw(t, "from file")}}
	case 5:
		e.Change = &schemas.PolicyEvent_RolledBack{RolledBack: &schemas.RolledBack{
			ToRevision: uint64(rapid.IntRange(0, int(rev)).Draw(t, "to"))}}
	default:
		genProposalEvent(t, s, e, rev)
	}
	return e
}

func genProposalEvent(t *rapid.T, s *State, e *schemas.PolicyEvent, rev uint64) {
	open := s.Proposals("", StatusOpen)
	if len(open) == 0 || rapid.Bool().Draw(t, "open") {
		p := &schemas.Proposal{Id: fmt.Sprintf("p%d", rapid.IntRange(0, 5).Draw(t, "proposal")), Action: "add",
			Evidence: fmt.Sprint(rapid.IntRange(0, 1).Draw(t, "evidence"))}
		for _, r := range genWire(t) {
			p.Rules = append(p.Rules, &schemas.ProposedRule{Rule: r})
		}
		e.Change = &schemas.PolicyEvent_ProposalOpened{ProposalOpened: &schemas.ProposalOpened{Proposal: p}}
		return
	}
	p := rapid.SampledFrom(open).Draw(t, "which")
	e.Policy, e.BasedOn = p.Policy, rev-uint64(rapid.IntRange(0, 3).Draw(t, "age"))
	switch rapid.IntRange(0, 2).Draw(t, "decision") {
	case 0:
		e.Change = &schemas.PolicyEvent_ProposalApproved{ProposalApproved: &schemas.ProposalApproved{Id: p.ID,
			Evidence: p.Body.Evidence, Rules: []*schemas.Rule{p.Body.Rules[0].Rule}}}
	case 1:
		e.Change = &schemas.PolicyEvent_ProposalRejected{ProposalRejected: &schemas.ProposalRejected{Id: p.ID,
			Evidence: p.Body.Evidence}}
	default:
		e.Change = &schemas.PolicyEvent_ProposalSuperseded{ProposalSuperseded: &schemas.ProposalSuperseded{Id: p.ID, By: "p9"}}
	}
}

func genWire(t *rapid.T) []*schemas.Rule {
	rules := rapid.SliceOfN(rapid.Custom(genRule), 1, 3).Draw(t, "rules")
	for i := range rules {
		rules[i].Comment = rapid.SampledFrom([]string{"", "why"}).Draw(t, "comment")
		rules[i].Origin = rapid.SampledFrom([]Origin{OriginOperator, OriginProposal}).Draw(t, "origin")
		rules[i].Expires = rapid.SampledFrom([]time.Time{{}, noon, noon.Add(time.Hour)}).Draw(t, "expires")
	}
	return WireRules(rules)
}

func encode(t interface{ Fatal(...any) }, s *State) string {
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestFoldingOnFromASnapshotEqualsFoldingTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := genLog(t, 40)
		s := NewState()
		for _, e := range log {
			if rapid.IntRange(0, 4).Draw(t, "restart") == 0 {
				again, err := DecodeState([]byte(encode(t, s)))
				if err != nil {
					t.Fatal(err)
				}
				s = again
			}
			s.Apply(e.Revision, e.Event)
			for range rapid.IntRange(0, 1).Draw(t, "redelivered") {
				if o := s.Apply(e.Revision, e.Event); !o.Old || len(o.Changes) > 0 {
					t.Fatalf("event %d folded twice: %+v", e.Revision, o)
				}
			}
		}
		want := NewState()
		for _, e := range log {
			want.Apply(e.Revision, e.Event)
		}
		if diff := cmp.Diff(encode(t, want), encode(t, s)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestOutcomeIsTheDifferenceOfTheStates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewState()
		for _, e := range genLog(t, 30) {
			before, err := s.Clone()
			if err != nil {
				t.Fatal(err)
			}
			o := s.Apply(e.Revision, e.Event)
			want := Diff(before, s)
			got := slices.Clone(o.Changes)
			for i := range got {
				if got[i].Op == "mode" {
					got[i].Policy = ""
				}
			}
			if o.Refused != "" && len(want) > 0 {
				t.Fatalf("refused (%s) and yet %v", o.Refused, want)
			}
			if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
				t.Fatalf("%s: %s", Describe(e.Event), diff)
			}
			if s.LastSequence(e.Event.Policy) != e.Revision {
				t.Fatalf("last sequence %d, want %d", s.LastSequence(e.Event.Policy), e.Revision)
			}
		}
	})
}

// lines makes changes comparable; a rule replaced within one event may be
// removed and added on the way.
func lines(changes []Change) []string {
	out := []string{}
	for _, c := range changes {
		out = append(out, c.Policy+" "+c.String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestRollbackRestoresTheOperatorsRulesAndModes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := genLog(t, 30)
		now := At(log, 1<<60)
		to := uint64(rapid.IntRange(0, int(now.Revision())).Draw(t, "to"))
		then := At(log, to)
		rev := now.Revision() + 1
		files := encodeRules(now.books["a"], OriginFile)
		now.Apply(rev, &schemas.PolicyEvent{Policy: "a", Change: &schemas.PolicyEvent_RolledBack{
			RolledBack: &schemas.RolledBack{ToRevision: to}}})
		if diff := cmp.Diff(encodeRules(then.books["a"], OriginOperator), encodeRules(now.books["a"], OriginOperator)); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(files, encodeRules(now.books["a"], OriginFile)); diff != "" {
			t.Fatalf("rules from files changed: %s", diff)
		}
		for _, w := range []string{"w", "x"} {
			if then.books["a"] == nil {
				continue
			}
			if got, want := now.books["a"].modes[w].Mode, then.books["a"].modes[w].Mode; got != want {
				t.Fatalf("mode of %s is %v, was %v", w, got, want)
			}
		}
	})
}

func encodeRules(b *book, layer Origin) []string {
	out := []string{}
	if b == nil {
		return out
	}
	for text, r := range b.byText() {
		if (r.Origin == OriginFile) == (layer == OriginFile) {
			out = append(out, fmt.Sprint(text, r.Comment, r.Owner, r.Origin, r.Expires))
		}
	}
	slices.Sort(out)
	return out
}

func TestIDsOfHeldRulesTellThemApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := At(genLog(t, 40), 1<<60)
		byID := map[string]string{}
		held := map[string]bool{}
		for _, name := range s.Policies() {
			for _, r := range s.Policy(name).Rules {
				if old, ok := byID[r.ID]; ok && old != r.String() {
					t.Fatalf("%s is %s and %s", r.ID, old, r)
				}
				byID[r.ID], held[r.canonical()] = r.String(), true
			}
		}
		if len(s.names.byText) != len(held) || len(s.names.byID) != len(held) {
			t.Fatalf("%d texts and %d IDs are held by %d rules", len(s.names.byText), len(s.names.byID), len(held))
		}
	})
}

func TestHistoryTellsTheStory(t *testing.T) {
	log := story(t)
	var got []string
	for _, r := range History(log, "web") {
		line := fmt.Sprintf("%d %s: %s", r.Entry.Revision, r.Event.Actor, r.What)
		for _, c := range r.Changes {
			line += " | " + c.String()
		}
		if r.Refused != "" {
			line += " | refused: " + r.Refused
		}
		got = append(got, line)
	}
	want := strings.Split(strings.TrimSpace(`
1 ann: add 192.0.2.0/24; deny 192.0.2.9/32 | + 192.0.2.0/24  # ours | + deny 192.0.2.9/32
3 bob: import of web.allow: 1 rules | + 198.51.100.1/32 tcp/443
4 bob: remove 51c923cd | refused: rule 51c923cd is from web.allow:1: change it there
5 learner: propose p1 to add 203.0.113.7/32 tcp/80; 203.0.113.8/32 tcp/80
6 ann: approve p1: add 203.0.113.7/32 tcp/80 | refused: proposal p1: the policy changed at revision 3, after revision 1 that was seen
7 ann: approve p1: add 203.0.113.7/32 tcp/80 | + 203.0.113.7/32 tcp/80
8 ann: mode of shop/web to block | mode of shop/web: its label to block
9 ann: roll back to revision 3 | mode of shop/web: block to its label | - 203.0.113.7/32 tcp/80
10 bob: approve p1: add 203.0.113.7/32 tcp/80 | refused: proposal p1 is approved since revision 7
`), "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func story(t *testing.T) []Entry {
	t.Helper()
	ours := mustRules(t, "192.0.2.0/24 # ours", "deny 192.0.2.9")
	file, err := ParseFile("web.allow", []byte("198.51.100.1 tcp/443"))
	if err != nil {
		t.Fatal(err)
	}
	wish := mustRules(t, "203.0.113.7 tcp/80", "203.0.113.8 tcp/80")
	approve := func() *schemas.PolicyEvent_ProposalApproved {
		return &schemas.PolicyEvent_ProposalApproved{ProposalApproved: &schemas.ProposalApproved{Id: "p1", Evidence: "e",
			Rules: WireRules(wish[:1])}}
	}
	e := func(rev uint64, actor, policy string, basedOn uint64) Entry {
		return Entry{rev, &schemas.PolicyEvent{Actor: actor, Policy: policy, BasedOn: basedOn}}
	}
	log := []Entry{e(1, "ann", "web", 0), e(2, "ann", "db", 0), e(3, "bob", "web", 0), e(4, "bob", "web", 3), e(5, "learner", "web", 3),
		e(6, "ann", "web", 1), e(7, "ann", "web", 5), e(8, "ann", "web", 7), e(9, "ann", "web", 8), e(10, "bob", "web", 9)}
	log[0].Event.Change = &schemas.PolicyEvent_RuleAdded{RuleAdded: &schemas.RuleAdded{Rules: WireRules(ours)}}
	log[1].Event.Change = &schemas.PolicyEvent_RuleAdded{RuleAdded: &schemas.RuleAdded{Rules: WireRules(ours)}}
	log[2].Event.Change = &schemas.PolicyEvent_RulesImported{RulesImported: &schemas.RulesImported{Rules: WireRules(file),
		File: "web.allow", Sha256: "x", FromFile: true}}
	log[3].Event.Change = &schemas.PolicyEvent_RuleRemoved{RuleRemoved: &schemas.RuleRemoved{Ids: []string{file[0].ID}}}
	log[4].Event.Change = &schemas.PolicyEvent_ProposalOpened{ProposalOpened: &schemas.ProposalOpened{Proposal: &schemas.Proposal{
		Id: "p1", Action: "add", Evidence: "e", Rules: []*schemas.ProposedRule{{Rule: wish[0].Wire()}, {Rule: wish[1].Wire()}}}}}
	log[5].Event.Change, log[6].Event.Change = approve(), approve()
	log[7].Event.Change = &schemas.PolicyEvent_ModeSet{ModeSet: &schemas.ModeSet{Workload: "shop/web", Mode: schemas.Mode_MODE_BLOCK}}
	log[8].Event.Change = &schemas.PolicyEvent_RolledBack{RolledBack: &schemas.RolledBack{ToRevision: 3}}
	log[9].Event.Change = approve()
	return log
}
