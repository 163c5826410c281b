package learner

import (
	"maps"
	"slices"
	"time"

	"github.com/egresswarden/egresswarden/policy"
)

// takenBack notes when an allow rule ended.
func (l *Learner) takenBack(name string, r policy.Rule, ns int64) {
	if r.Action != policy.ActionAllow {
		return
	}
	if l.removed[name] == nil {
		l.removed[name] = map[string]policy.Rule{}
	}
	r.Expires = unix(ns)
	l.removed[name][r.String()] = r
}

// unsettled leaves only the wishes that were denied, and denied after the rule
// that granted them ended: who takes a rule back does not want it proposed for
// what happened before.
func (l *Learner) unsettled(name string, wishes []wish, now time.Time) ([]wish, error) {
	ended := map[string]policy.Rule{}
	for _, p := range []string{policy.Everyone, name} {
		maps.Copy(ended, l.removed[p])
		for _, r := range l.state.Policy(p).Rules {
			if r.Action == policy.ActionAllow && r.ExpiredAt(now) {
				ended[r.String()] = r
			}
		}
	}
	rules := slices.SortedFunc(maps.Values(ended), func(a, b policy.Rule) int { return a.Prefix.Compare(b.Prefix) })
	policy.Distinguish(rules)
	since := make(map[uint32]int64, len(rules))
	for i := range rules {
		since[rules[i].Number()] = rules[i].Expires.UnixNano()
		rules[i].Expires = time.Time{}
	}
	table, err := policy.Compile(rules, now)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(wishes, func(w wish) bool {
		return w.denied == 0 || w.deniedNs <= since[table.Match(w.addr, w.proto, w.port).Rule]
	}), nil
}
