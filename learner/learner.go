package learner

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// Learner is the core: flows and policy events go in, proposals come out. It
// has no clock and does no I/O, and is not safe for concurrent use.
type Learner struct {
	options  Options
	evidence *evidence
	state    *policy.State
	// added is when each rule of each policy came, by its text.
	added map[string]map[string]int64
	// removed are the allow rules of each policy that were taken back.
	removed map[string]map[string]policy.Rule
	// planned is when each policy was looked at.
	planned map[string]time.Time
	// told are the losses that hosts told of.
	told map[lossKey]loss
	// covered is the sequence of the last message of flows taken.
	covered uint64
	// made tells the stream of flows from another of its name; 0 is unknown.
	made int64
}

// New makes a learner that knows nothing.
func New(o Options) *Learner {
	o = o.withDefaults()
	return &Learner{options: o, evidence: newEvidence(o.Limits), state: policy.NewState(),
		added: map[string]map[string]int64{}, removed: map[string]map[string]policy.Rule{}, planned: map[string]time.Time{}, told: map[lossKey]loss{}}
}

// State is the fold of the policy events given so far. Do not change it.
func (l *Learner) State() *policy.State { return l.state }

// Covered is the sequence of the last message given to Flows.
func (l *Learner) Covered() uint64 { return l.covered }

// Stream says of which stream the flows are that are given from now on, by when
// it was made. It gives true when that is another one than before: then they
// begin with its first message.
func (l *Learner) Stream(made time.Time) (another bool) {
	another = !l.of(made)
	l.made = made.UnixNano()
	if another {
		l.covered = 0
	}
	return another
}

func (l *Learner) of(made time.Time) bool { return l.made == 0 || l.made == made.UnixNano() }

// Flows takes a message of the stream of flows; one that was taken before is
// left out.
func (l *Learner) Flows(sequence uint64, flows []*schemas.Flow) {
	if sequence <= l.covered {
		return
	}
	l.covered = sequence
	for _, f := range flows {
		l.evidence.add(f)
	}
}

// Policy takes an event of the policy log.
func (l *Learner) Policy(revision uint64, e *schemas.PolicyEvent) policy.Outcome {
	o := l.state.Apply(revision, e)
	for _, c := range o.Changes {
		switch c.Op {
		case "add":
			if l.added[c.Policy] == nil {
				l.added[c.Policy] = map[string]int64{}
			}
			l.added[c.Policy][c.Rule.String()] = e.GetTimeNs()
			delete(l.removed[c.Policy], c.Rule.String())
		case "remove":
			delete(l.added[c.Policy], c.Rule.String())
			l.takenBack(c.Policy, c.Rule, e.GetTimeNs())
		}
	}
	if !o.Old {
		l.look(e.GetPolicy())
	}
	return o
}

// look has a policy looked at by the next Plan.
func (l *Learner) look(name string) {
	if name == policy.Everyone {
		clear(l.planned)
		return
	}
	delete(l.planned, name)
}

// planAgain is how often a policy is looked at where nothing happened.
const planAgain = 10 * time.Minute

// Plan gives the events that bring the open proposals of all policies up to
// date. Append them in their order; what was not appended comes again.
func (l *Learner) Plan(now time.Time) ([]*schemas.PolicyEvent, error) {
	l.evidence.forget(now.Add(-l.options.Window).UnixNano())
	l.forgetLosses(now)
	names := append(l.state.Policies(), slices.Collect(maps.Keys(l.evidence.policies))...)
	slices.Sort(names)
	var out []*schemas.PolicyEvent
	for _, name := range slices.Compact(names) {
		d := l.evidence.policies[name]
		last, ok := l.planned[name]
		if ok && (d == nil || !d.dirty) && now.Sub(last).Abs() < planAgain {
			continue
		}
		events, err := l.plan(name, now)
		if err != nil {
			return out, fmt.Errorf("plan policy %s: %w", name, err)
		}
		out = append(out, events...)
		if len(events) == 0 {
			// Otherwise the policy is looked at again until its events are in
			// the log.
			l.planned[name] = now
			if d != nil {
				d.dirty = false
			}
		}
	}
	return out, nil
}

func (l *Learner) plan(name string, now time.Time) ([]*schemas.PolicyEvent, error) {
	wanted, err := l.suggest(name, now)
	if err != nil {
		return nil, err
	}
	wanted = append(wanted, l.unused(name, now)...)
	byID := map[string]bool{}
	var out []*schemas.PolicyEvent
	for _, p := range wanted {
		open := l.identify(name, p)
		byID[p.Id] = true
		if !open {
			out = append(out, event(name, now, p.Revision, &schemas.PolicyEvent_ProposalOpened{
				ProposalOpened: &schemas.ProposalOpened{Proposal: p}}))
		}
	}
	for _, old := range l.state.Proposals(name, policy.StatusOpen) {
		if !byID[old.ID] {
			out = append(out, event(name, now, 0, &schemas.PolicyEvent_ProposalSuperseded{
				ProposalSuperseded: &schemas.ProposalSuperseded{Id: old.ID, By: successor(old.Body, wanted)}}))
		}
	}
	return out, nil
}

// Actor is the name in the events that the learner appends.
const Actor = "learner"

func event(name string, now time.Time, basedOn uint64, change any) *schemas.PolicyEvent {
	e := &schemas.PolicyEvent{TimeNs: now.UnixNano(), Actor: Actor, Policy: name, BasedOn: basedOn}
	switch c := change.(type) {
	case *schemas.PolicyEvent_ProposalOpened:
		e.Change = c
	case *schemas.PolicyEvent_ProposalSuperseded:
		e.Change = c
	}
	return e
}

// identify gives the proposal an ID that is free or its own, and tells whether
// it is open already.
func (l *Learner) identify(name string, p *schemas.Proposal) (open bool) {
	for n := 0; ; n++ {
		p.Id = digest(10, name, p.Action, p.Rules[0].Rule.Text, p.Evidence, fmt.Sprint(n))
		known, ok := l.state.Proposal(p.Id)
		if !ok || known.Policy == name && known.Status == policy.StatusOpen {
			return ok
		}
	}
}

// successor is the proposal whose prefix meets that of an old one.
func successor(old *schemas.Proposal, wanted []*schemas.Proposal) string {
	was, err := policy.FromWire(old.GetRules()[0].GetRule())
	if err != nil {
		return ""
	}
	best, width := "", -1
	for _, p := range wanted {
		r, err := policy.FromWire(p.Rules[0].Rule)
		if err == nil && p.Action == old.GetAction() && r.Prefix.Overlaps(was.Prefix) && r.Prefix.Bits() > width {
			best, width = p.Id, r.Prefix.Bits()
		}
	}
	return best
}

// unused proposes the removal of rules that nothing used for a long time,
// though the policy had traffic and nothing was lost.
func (l *Learner) unused(name string, now time.Time) []*schemas.Proposal {
	before := now.Add(-l.options.Unused).UnixNano()
	firstNs, lastNs, used := l.usage(name)
	if firstNs == 0 || firstNs > before || lastNs <= before || l.lostSince(name, before) {
		return nil
	}
	p := l.state.Policy(name)
	var out []*schemas.Proposal
	for _, r := range p.Rules {
		last := used[r.Number()]
		if r.Origin == policy.OriginFile || r.Action != policy.ActionAllow || r.ExpiredAt(now) ||
			l.added[name][r.String()] > before || last > before {
			continue
		}
		title := fmt.Sprintf("remove %s: not used since %s", r, unix(max(last, firstNs)).Format(time.DateOnly))
		out = append(out, &schemas.Proposal{Action: "remove", Revision: p.Revision, Title: title,
			Evidence: digest(16, "unused", r.String(), fmt.Sprint(last)),
			Rules:    []*schemas.ProposedRule{{Rule: r.Wire(), LastSeenNs: last}}})
	}
	rejected := map[string]bool{}
	for _, q := range l.state.Proposals(name, policy.StatusRejected) {
		rejected[q.Body.GetAction()+q.Body.GetEvidence()] = true
	}
	return slices.DeleteFunc(out, func(q *schemas.Proposal) bool { return rejected[q.Action+q.Evidence] })
}

// usage tells how long a policy's traffic was watched and when each rule was
// last used; rules of Everyone are used by all policies.
func (l *Learner) usage(name string) (firstNs, lastNs int64, used map[uint32]int64) {
	used = map[uint32]int64{}
	for p, d := range l.evidence.policies {
		if p != name && name != policy.Everyone {
			continue
		}
		if firstNs == 0 || d.firstNs < firstNs {
			firstNs = d.firstNs
		}
		lastNs = max(lastNs, d.lastNs)
		for n, ns := range d.used {
			used[n] = max(used[n], ns)
		}
	}
	return firstNs, lastNs, used
}

func (l *Learner) lostSince(name string, ns int64) bool {
	for _, w := range l.evidence.workloads {
		if w.policy != name && name != policy.Everyone {
			continue
		}
		if w.lost > 0 && w.lostNs > ns || len(l.lossesOf(w, ns)) > 0 {
			return true
		}
	}
	return false
}

func compareDest(a, b dest) int {
	return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.proto, b.proto), cmp.Compare(a.port, b.port))
}

// restart forgets the policy log and keeps the evidence.
func (l *Learner) restart() {
	l.state = policy.NewState()
	clear(l.added)
	clear(l.removed)
	clear(l.planned)
}
