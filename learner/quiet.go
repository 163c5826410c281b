package learner

import (
	"slices"
	"time"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// rejections are the rules that someone did not want, with the evidence there
// was.
type rejections struct {
	table *policy.Table
	by    map[uint32]*rejection
	// silent are those that are not proposed again.
	silent []policy.Rule
}

type rejection struct {
	rule     policy.Rule
	seen     *schemas.ProposedRule
	revision uint64
	now      schemas.ProposedRule
	grown    bool
}

func (l *Learner) rejections(name string) (*rejections, error) {
	last := map[string]*rejection{}
	for _, p := range l.state.Proposals(name, policy.StatusRejected) {
		for _, e := range p.Body.GetRules() {
			r, err := policy.FromWire(e.GetRule())
			if err != nil || p.Body.GetAction() != "add" || !slices.Contains(p.Decided, r.String()) {
				continue
			}
			if old := last[r.String()]; old == nil || old.revision < p.Closed {
				last[r.String()] = &rejection{rule: r, seen: e, revision: p.Closed}
			}
		}
	}
	q := &rejections{by: map[uint32]*rejection{}}
	rules := make([]policy.Rule, 0, len(last))
	for _, r := range last {
		rules = append(rules, r.rule)
	}
	slices.SortFunc(rules, func(a, b policy.Rule) int { return a.Prefix.Compare(b.Prefix) })
	policy.Distinguish(rules)
	for _, r := range rules {
		q.by[r.Number()] = last[r.String()]
	}
	var err error
	q.table, err = policy.Compile(rules, time.Time{})
	return q, err
}

func (q *rejections) find(d dest) *rejection {
	return q.by[q.table.Match(d.addr, d.proto, d.port).Rule]
}

// silence leaves out the wishes that were rejected, unless there is more to
// them now.
func (q *rejections) silence(wishes []wish, n *names) []wish {
	for _, w := range wishes {
		if r := q.find(w.dest); r != nil {
			r.now.Denied += w.denied
			r.now.LastSeenNs = max(r.now.LastSeenNs, w.lastNs)
			r.now.Processes = n.add(r.now.Processes, w.comms[:])
			r.now.Hosts = n.add(r.now.Hosts, w.hosts[:])
		}
	}
	for _, r := range q.by {
		if r.grown = grown(r.seen, &r.now); !r.grown {
			q.silent = append(q.silent, r.rule)
		}
	}
	return slices.DeleteFunc(wishes, func(w wish) bool {
		r := q.find(w.dest)
		return r != nil && !r.grown
	})
}

// grown tells whether evidence is more than the same again: another process or
// host, or twice as much on another day.
func grown(was, now *schemas.ProposedRule) bool {
	const most = 8 // as many names as a proposal has
	other := func(was, now []string) bool {
		return len(was) < most && slices.ContainsFunc(now, func(s string) bool { return !slices.Contains(was, s) })
	}
	return other(was.GetProcesses(), now.Processes) || other(was.GetHosts(), now.Hosts) ||
		now.Denied >= 2*was.GetDenied() && now.LastSeenNs-was.GetLastSeenNs() >= dayNs
}

// of finds a rejection that wishes fall under.
func (q *rejections) of(wishes []wish) (*rejection, bool) {
	for _, w := range wishes {
		if r := q.find(w.dest); r != nil {
			return r, true
		}
	}
	return nil, false
}
