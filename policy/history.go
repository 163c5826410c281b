package policy

import (
	"fmt"
	"strings"

	"github.com/egresswarden/egresswarden/schemas"
)

// Entry is an event at its place in the log.
type Entry struct {
	Revision uint64
	Event    *schemas.PolicyEvent
}

// Record is an entry with what it did.
type Record struct {
	Entry
	Outcome
	// What says in a line what the event asked for.
	What string
}

// At folds the entries, which are in order, up to a revision.
func At(entries []Entry, revision uint64) *State {
	s := NewState()
	for _, e := range entries {
		if e.Revision > revision {
			break
		}
		s.Apply(e.Revision, e.Event)
	}
	return s
}

// History folds the whole log and tells what its events did to a policy, to
// all policies for "".
func History(entries []Entry, policy string) []Record {
	var out []Record
	s := NewState()
	for _, e := range entries {
		o := s.Apply(e.Revision, e.Event)
		if !o.Old && (policy == "" || e.Event.GetPolicy() == policy) {
			out = append(out, Record{e, o, Describe(e.Event)})
		}
	}
	return out
}

// Describe says in a line what an event asks for.
func Describe(e *schemas.PolicyEvent) string {
	if e.GetKeepEstablished() {
		return describe(e) + ", established connections kept"
	}
	return describe(e)
}

func describe(e *schemas.PolicyEvent) string {
	switch c := e.GetChange().(type) {
	case *schemas.PolicyEvent_RuleAdded:
		return "add " + list(texts(c.RuleAdded.GetRules()))
	case *schemas.PolicyEvent_RuleRemoved:
		return "remove " + list(c.RuleRemoved.GetIds())
	case *schemas.PolicyEvent_ModeSet:
		return fmt.Sprintf("mode of %s to %s", c.ModeSet.GetWorkload(), modeWord(Mode(c.ModeSet.GetMode())))
	case *schemas.PolicyEvent_RulesImported:
		from := "import"
		if c.RulesImported.GetFile() != "" {
			from += " of " + c.RulesImported.GetFile()
		}
		return fmt.Sprintf("%s: %d rules", from, len(c.RulesImported.GetRules()))
	case *schemas.PolicyEvent_RolledBack:
		return fmt.Sprintf("roll back to revision %d", c.RolledBack.GetToRevision())
	case *schemas.PolicyEvent_ProposalOpened:
		p := c.ProposalOpened.GetProposal()
		return fmt.Sprintf("propose %s to %s %s", p.GetId(), p.GetAction(), list(proposedTexts(p)))
	case *schemas.PolicyEvent_ProposalApproved:
		m := c.ProposalApproved
		if len(m.GetRemovedIds()) > 0 {
			return fmt.Sprintf("approve %s: remove %s", m.GetId(), list(m.GetRemovedIds()))
		}
		return fmt.Sprintf("approve %s: add %s", m.GetId(), list(texts(m.GetRules())))
	case *schemas.PolicyEvent_ProposalRejected:
		return "reject " + c.ProposalRejected.GetId()
	case *schemas.PolicyEvent_ProposalSuperseded:
		if c.ProposalSuperseded.GetBy() == "" {
			return "withdraw " + c.ProposalSuperseded.GetId()
		}
		return fmt.Sprintf("supersede %s by %s", c.ProposalSuperseded.GetId(), c.ProposalSuperseded.GetBy())
	}
	return "an event of an unknown kind"
}

func texts(rules []*schemas.Rule) []string {
	out := make([]string, len(rules))
	for i, r := range rules {
		out[i] = r.GetText()
	}
	return out
}

func proposedTexts(p *schemas.Proposal) []string {
	out := make([]string, len(p.GetRules()))
	for i, r := range p.GetRules() {
		out[i] = r.GetRule().GetText()
	}
	return out
}

// list names a few and counts the rest.
func list(items []string) string {
	const most = 3
	if len(items) <= most {
		return strings.Join(items, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(items[:most], "; "), len(items)-most)
}
