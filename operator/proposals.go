package operator

import (
	"slices"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// Shown is a proposal as a person sees it. Deciding it is bound to the
// revision and the evidence that it carries.
type Shown struct {
	policy.Proposal
	// Seen is the revision of the log at which it was shown.
	Seen uint64
}

// Proposal finds a proposal by its ID.
func (d *Desk) Proposal(id string) (Shown, error) {
	p, ok := d.state.Proposal(id)
	if !ok {
		return Shown{}, notFoundf("there is no proposal %s", id)
	}
	return Shown{p, d.state.Revision()}, nil
}

// OpenProposal finds one that can be decided.
func (d *Desk) OpenProposal(id string) (Shown, error) {
	p, err := d.Proposal(id)
	switch {
	case err != nil:
		return p, err
	case p.Status == policy.StatusSuperseded && p.By != "":
		return p, refusedf("proposal %s is superseded by %s since revision %d: the evidence has changed", id, p.By, p.Closed)
	case p.Status == policy.StatusSuperseded:
		return p, refusedf("proposal %s is withdrawn since revision %d: nothing asks for it any more", id, p.Closed)
	case p.Status != policy.StatusOpen:
		return p, refusedf("proposal %s is %s since revision %d", id, p.Status, p.Closed)
	}
	return p, nil
}

// Approve drafts the approval of a proposal as it was shown, of the rules named
// by only (all when there are none).
func (d *Desk) Approve(p Shown, only []string, reason string) (*Draft, error) {
	rules, err := p.choose(only)
	if err != nil {
		return nil, err
	}
	m := &schemas.ProposalApproved{Id: p.ID, Evidence: p.Body.GetEvidence()}
	for _, r := range rules {
		if p.Body.GetAction() == "add" {
			m.Rules = append(m.Rules, r)
			continue
		}
		id, err := d.find(p.Policy, r.GetText())
		if err != nil {
			return nil, err
		}
		m.RemovedIds = append(m.RemovedIds, id)
	}
	if err := d.stale(p.Policy, p.Seen); err != nil {
		return nil, err
	}
	return d.draft(&schemas.PolicyEvent{Policy: p.Policy, Reason: reason,
		Change: &schemas.PolicyEvent_ProposalApproved{ProposalApproved: m}}, p.Seen)
}

// Reject drafts the rejection of a proposal as it was shown.
func (d *Desk) Reject(p Shown, reason string) (*Draft, error) {
	return d.draft(&schemas.PolicyEvent{Policy: p.Policy, Reason: reason,
		Change: &schemas.PolicyEvent_ProposalRejected{ProposalRejected: &schemas.ProposalRejected{
			Id: p.ID, Evidence: p.Body.GetEvidence()}}}, p.Seen)
}

// choose gives the proposed rules that are named by text or ID.
func (p Shown) choose(only []string) ([]*schemas.Rule, error) {
	var all, out []*schemas.Rule
	for _, r := range p.Body.GetRules() {
		all = append(all, r.GetRule())
	}
	if len(only) == 0 {
		return all, nil
	}
	for _, which := range only {
		text := which
		if r, err := policy.ParseRule(which); err == nil {
			text = r.String()
		}
		i := slices.IndexFunc(all, func(r *schemas.Rule) bool { return r.GetText() == text || r.GetId() == which })
		if i < 0 {
			return nil, notFoundf("proposal %s has no rule %s", p.ID, which)
		}
		if !slices.Contains(out, all[i]) {
			out = append(out, all[i])
		}
	}
	return out, nil
}

// Successor follows a superseded proposal to the one that took its place; ok is
// false when nothing is open there.
func (d *Desk) Successor(id string) (p Shown, ok bool) {
	for range maxSuccessors {
		p, err := d.Proposal(id)
		if err != nil {
			return Shown{}, false
		}
		if p.Status != policy.StatusSuperseded || p.By == "" {
			return p, p.Status == policy.StatusOpen
		}
		id = p.By
	}
	return Shown{}, false
}

// maxSuccessors bounds how far a chain of proposals is followed.
const maxSuccessors = 1000
