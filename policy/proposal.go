package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/egresswarden/egresswarden/schemas"
)

// Status of a proposal.
type Status string

// The statuses. A proposal begins open and ends in one of the others; a
// rejected one is opened again only with other evidence.
const (
	StatusOpen       Status = "open"
	StatusApproved   Status = "approved"
	StatusRejected   Status = "rejected"
	StatusSuperseded Status = "superseded"
)

// Proposal is what the log says of one suggestion.
type Proposal struct {
	ID     string
	Policy string
	Status Status
	// Opened and Closed are the revisions of the events that did so.
	Opened, Closed uint64
	// By names the proposal that superseded this one.
	By string
	// Body is the proposal as opened; nil when superseded. Do not change it.
	Body *schemas.Proposal
	// Decided has the rules that were approved or rejected, by text.
	Decided []string
}

// Proposal finds a proposal by its ID.
func (s *State) Proposal(id string) (Proposal, bool) {
	p := s.proposals[id]
	if p == nil {
		return Proposal{}, false
	}
	return *p, true
}

// Proposals lists those of a policy (all policies for "") that have the
// status, in the order of opening.
func (s *State) Proposals(policy string, status Status) []Proposal {
	var out []Proposal
	take := func(all []*Proposal) {
		for _, p := range all {
			if p.Status == status {
				out = append(out, *p)
			}
		}
	}
	if policy != "" {
		take(s.ofPolicy[policy])
	} else {
		for _, all := range s.ofPolicy {
			take(all)
		}
	}
	slices.SortFunc(out, func(a, b Proposal) int { return cmp.Compare(a.Opened, b.Opened) })
	return out
}

func (t *txn) open(body *schemas.Proposal) error {
	id := body.GetId()
	if id == "" {
		return errors.New("the proposal has no ID")
	}
	if a := body.GetAction(); a != "add" && a != "remove" {
		return fmt.Errorf("proposal %s: action %q: want add or remove", id, a)
	}
	if len(body.GetRules()) == 0 {
		return fmt.Errorf("proposal %s has no rules", id)
	}
	for _, r := range body.GetRules() {
		if _, err := FromWire(r.GetRule()); err != nil {
			return fmt.Errorf("proposal %s: %w", id, err)
		}
	}
	if p := t.state.proposals[id]; p != nil {
		if p.Policy != t.name {
			return fmt.Errorf("proposal %s is of policy %s", id, p.Policy)
		}
		if p.Status != StatusRejected || p.Body.GetEvidence() == body.GetEvidence() {
			return fmt.Errorf("proposal %s was opened before and is %s", id, p.Status)
		}
	}
	t.state.keep(&Proposal{ID: id, Policy: t.name, Status: StatusOpen, Opened: t.revision, Body: body})
	return nil
}

// keep takes a proposal in, in place of a former one of the same ID, which is
// of the same policy.
func (s *State) keep(p *Proposal) {
	if old := s.proposals[p.ID]; old != nil {
		*old = *p
		return
	}
	s.proposals[p.ID] = p
	s.ofPolicy[p.Policy] = append(s.ofPolicy[p.Policy], p)
}

// pending is the open proposal that an event decides.
func (t *txn) pending(id, evidence string) (*Proposal, error) {
	p := t.state.proposals[id]
	switch {
	case p == nil || p.Policy != t.name:
		return nil, fmt.Errorf("policy %s has no proposal %s", t.name, id)
	case p.Status == StatusSuperseded && p.By != "":
		return nil, fmt.Errorf("proposal %s is superseded by %s", id, p.By)
	case p.Status != StatusOpen:
		return nil, fmt.Errorf("proposal %s is %s since revision %d", id, p.Status, p.Closed)
	case p.Body.GetEvidence() != evidence:
		return nil, fmt.Errorf("proposal %s rests on other evidence than was seen", id)
	}
	return p, nil
}

func (t *txn) close(p *Proposal, s Status, decided []string) {
	p.Status, p.Closed, p.Decided = s, t.revision, decided
}

func (t *txn) approve(e *schemas.PolicyEvent, m *schemas.ProposalApproved) error {
	p, err := t.pending(m.GetId(), m.GetEvidence())
	if err != nil {
		return err
	}
	if e.GetBasedOn() < t.book.changed {
		return fmt.Errorf("proposal %s: the policy changed at revision %d, after revision %d that was seen",
			p.ID, t.book.changed, e.GetBasedOn())
	}
	if p.Body.GetAction() == "remove" {
		return t.approveRemoval(p, m)
	}
	rules, err := fromWireAll(m.GetRules())
	if err != nil {
		return err
	}
	if len(rules) == 0 || len(m.GetRemovedIds()) > 0 {
		return fmt.Errorf("proposal %s: an approval names the rules that it adds", p.ID)
	}
	proposed := p.texts()
	var decided []string
	for i := range rules {
		if text := rules[i].String(); !proposed[text] {
			return fmt.Errorf("proposal %s does not have the rule %s", p.ID, text)
		}
		rules[i].Origin = OriginProposal
		decided = append(decided, rules[i].String())
	}
	for _, r := range rules {
		t.put(r)
	}
	t.close(p, StatusApproved, decided)
	return nil
}

func (t *txn) approveRemoval(p *Proposal, m *schemas.ProposalApproved) error {
	if len(m.GetRemovedIds()) == 0 || len(m.GetRules()) > 0 {
		return fmt.Errorf("proposal %s: an approval names the IDs of the rules that it removes", p.ID)
	}
	proposed := p.texts()
	var decided []string
	for _, id := range m.GetRemovedIds() {
		if err := t.removable(id); err != nil {
			return err
		}
		text := t.book.operator[id].String()
		if !proposed[text] {
			return fmt.Errorf("proposal %s does not have the rule %s", p.ID, id)
		}
		decided = append(decided, text)
	}
	if err := t.remove(m.GetRemovedIds()); err != nil {
		return err
	}
	t.close(p, StatusApproved, decided)
	return nil
}

// texts are the rules of the proposal in canonical form.
func (p *Proposal) texts() map[string]bool {
	out := map[string]bool{}
	for _, r := range p.Body.GetRules() {
		if rule, err := FromWire(r.GetRule()); err == nil {
			out[rule.String()] = true
		}
	}
	return out
}

func (t *txn) reject(m *schemas.ProposalRejected) error {
	p, err := t.pending(m.GetId(), m.GetEvidence())
	if err != nil {
		return err
	}
	rules, err := fromWireAll(m.GetRules())
	if err != nil {
		return err
	}
	proposed := p.texts()
	var decided []string
	for _, r := range rules {
		if !proposed[r.String()] {
			return fmt.Errorf("proposal %s does not have the rule %s", p.ID, r)
		}
		decided = append(decided, r.String())
	}
	if len(decided) == 0 {
		decided = slices.Sorted(maps.Keys(proposed))
	}
	t.close(p, StatusRejected, decided)
	return nil
}

func (t *txn) supersede(m *schemas.ProposalSuperseded) error {
	p := t.state.proposals[m.GetId()]
	if p == nil || p.Policy != t.name {
		return fmt.Errorf("policy %s has no proposal %s", t.name, m.GetId())
	}
	if p.Status != StatusOpen {
		return fmt.Errorf("proposal %s is %s since revision %d", p.ID, p.Status, p.Closed)
	}
	t.close(p, StatusSuperseded, nil)
	p.By, p.Body = m.GetBy(), nil
	return nil
}
