package operator

import (
	"fmt"
	"strings"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/policy"
)

// StaleError says that a policy is not any more what the person saw. It is
// eventlog.ErrStale, and nothing was appended.
type StaleError struct {
	Policy string
	// Seen is the revision that the person saw.
	Seen uint64
	// Meanwhile are the events behind it that changed rules or modes.
	Meanwhile []policy.Record
}

// Error tells who changed what.
func (e *StaleError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "policy %s has changed since revision %d, nothing was done:", e.Policy, e.Seen)
	for _, r := range e.Meanwhile {
		fmt.Fprintf(&b, "\n  %d  %s  %s: %s", r.Entry.Revision, time.Unix(0, r.Event.GetTimeNs()).Format(time.DateTime), r.Event.GetActor(), r.What)
		if reason := r.Event.GetReason(); reason != "" {
			fmt.Fprintf(&b, " (%s)", reason)
		}
	}
	return b.String()
}

// Unwrap is eventlog.ErrStale.
func (e *StaleError) Unwrap() error { return eventlog.ErrStale }

// stale is a *StaleError when rules or modes of the policy, or of everyone's,
// changed after the revision seen.
func (d *Desk) stale(name string, seen uint64) error {
	if seen > d.state.Revision() {
		return refusedf("revision %d: the policy log ends at %d", seen, d.state.Revision())
	}
	if d.state.LastSequence(name) <= seen && d.state.LastSequence(policy.Everyone) <= seen {
		return nil
	}
	e := &StaleError{Policy: name, Seen: seen}
	for _, r := range policy.History(d.entries, "") {
		of := r.Event.GetPolicy()
		if r.Entry.Revision > seen && len(r.Changes) > 0 && (of == name || of == policy.Everyone) {
			e.Meanwhile = append(e.Meanwhile, r)
		}
	}
	if len(e.Meanwhile) == 0 {
		return nil
	}
	return e
}
