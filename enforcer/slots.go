package enforcer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/egresswarden/egresswarden/policy"
)

var errNoSlot = errors.New("the gate holds no more policies, everything is refused")

// slots gives each workload's policy a slot of the gate. Slot 0 is never
// written: who is there is refused everything.
type slots struct {
	kernel kernel
	// most is how many policies the gate can hold at once.
	most     uint32
	byName   map[string]*slot
	used     map[uint32]bool
	reserved map[uint32]bool
	last     compiled
}

// compiled is a table and what it was made of.
type compiled struct {
	rules []policy.Rule
	live  string
	table *policy.Table
}

type slot struct {
	number uint32
	// live is the text of what was last compiled; empty means nothing was.
	live     string
	revision uint64
	// rules may be shared with others: they are read only.
	rules []policy.Rule
	// next is when the first of the rules expires, or a policy that did not
	// fit is tried again; zero is never.
	next time.Time
	// problem is why the policy wished is not in force.
	problem string
}

// tryAgain is how long a policy that cannot be put into the gate waits.
const tryAgain = 30 * time.Second

func newSlots(k kernel, most uint32) *slots {
	return &slots{kernel: k, most: most, byName: map[string]*slot{}, used: map[uint32]bool{0: true}, reserved: map[uint32]bool{}}
}

// reserve keeps a slot that a former process filled from being written.
func (s *slots) reserve(n uint32) {
	if n != 0 {
		s.used[n], s.reserved[n] = true, true
	}
}

// release frees what a former process filled, once no state points there.
func (s *slots) release() error {
	var errs []error
	for n := range s.reserved {
		if err := s.kernel.FreePolicy(n); err != nil {
			errs = append(errs, fmt.Errorf("free policy slot %d: %w", n, err))
			continue
		}
		delete(s.used, n)
		delete(s.reserved, n)
	}
	return errors.Join(errs...)
}

// use gives the slot of a workload with its policy in force. On an error the
// slot holds the last good table, or none, which refuses everything.
func (s *slots) use(workload string, set policySet) (uint32, error) {
	if sl, ok := s.byName[workload]; ok {
		return sl.number, nil
	}
	n, ok := s.free()
	if !ok {
		return 0, errNoSlot
	}
	sl := &slot{number: n}
	s.byName[workload], s.used[n] = sl, true
	_, err := s.load(workload, sl, set, time.Now())
	if err != nil {
		sl.failed(err, time.Now())
	}
	return n, err
}

func (s *slots) free() (uint32, bool) {
	for n := uint32(1); n < s.most; n++ {
		if !s.used[n] {
			return n, true
		}
	}
	return 0, false
}

// drop frees a workload's slot when no container needs it.
func (s *slots) drop(workload string) error {
	sl, ok := s.byName[workload]
	if !ok {
		return nil
	}
	delete(s.byName, workload)
	delete(s.used, sl.number)
	return s.kernel.FreePolicy(sl.number)
}

// refresh loads what differs from what is live, among the policies touched;
// nil is all.
func (s *slots) refresh(set policySet, touched map[string]bool, now time.Time, refused func(string, error) error) (changed []string, errs []error) {
	for workload, sl := range s.byName {
		if touched != nil && !touched[workload] && !touched[policy.Everyone] {
			continue
		}
		did, err := s.load(workload, sl, set, now)
		if err != nil && sl.failed(err, now) {
			errs = append(errs, refused(workload, err))
		}
		if did {
			changed = append(changed, workload)
		}
	}
	return changed, errs
}

// load compiles the workload's own rules and those for everyone, and swaps
// them in.
func (s *slots) load(workload string, sl *slot, set policySet, now time.Time) (bool, error) {
	rules := joined(set.Rules[workload], set.Rules[policy.Everyone])
	revision := max(set.Revision[workload], set.Revision[policy.Everyone])
	live, next := fingerprint(rules, now)
	if sl.live != "" && sl.live == live && sl.revision == revision {
		sl.next, sl.problem = next, "" // back to what is in force
		return false, nil
	}
	table, err := s.compile(rules, live, now)
	if err != nil {
		return false, fmt.Errorf("compile: %w", err)
	}
	put := s.kernel.SetPolicy
	if set.keeps(workload) && revision != sl.revision { // not by the end of a timed rule
		put = s.kernel.SetPolicyKeeping
	}
	if err := put(sl.number, table, revision); err != nil {
		return false, err
	}
	sl.live, sl.revision, sl.rules, sl.next, sl.problem = live, revision, rules, next, ""
	return true, nil
}

// failed notes why a policy is not in force, and tells whether that is news.
func (s *slot) failed(err error, now time.Time) (news bool) {
	news = s.problem != err.Error()
	s.problem, s.next = err.Error(), now.Add(tryAgain)
	return news
}

// joined is the rules of both, in memory of its own only where it must be: on a
// host of a thousand workloads copies are most of what this process needs.
func joined(own, everyone []policy.Rule) []policy.Rule {
	switch {
	case len(everyone) == 0:
		return own
	case len(own) == 0:
		return everyone
	}
	return slices.Concat(own, everyone)
}

// compile keeps the last table for the next workload that has the very same
// rules in force, as all have that live under the policy of everyone alone.
func (s *slots) compile(rules []policy.Rule, live string, now time.Time) (*policy.Table, error) {
	l := &s.last
	if l.table != nil && l.live == live && len(l.rules) == len(rules) && (len(rules) == 0 || &l.rules[0] == &rules[0]) {
		return l.table, nil
	}
	table, err := policy.Compile(rules, now)
	if err == nil {
		*l = compiled{rules, live, table}
	}
	return table, err
}

// fingerprint is the text of the rules in force now, and when the next of
// them ends.
func fingerprint(rules []policy.Rule, now time.Time) (string, time.Time) {
	var b strings.Builder
	var next time.Time
	b.WriteByte('.')
	for _, r := range rules {
		if !r.Expires.IsZero() {
			if !r.Expires.After(now) {
				continue
			}
			if next.IsZero() || r.Expires.Before(next) {
				next = r.Expires
			}
		}
		b.WriteString(r.ID)
	}
	return b.String(), next
}

// nextExpiry is the first time at which a policy in force changes by itself.
func (s *slots) nextExpiry() time.Time {
	var next time.Time
	for _, sl := range s.byName {
		if !sl.next.IsZero() && (next.IsZero() || sl.next.Before(next)) {
			next = sl.next
		}
	}
	return next
}
