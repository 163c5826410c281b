// Package operator is what people do with the policy log: reading it, changing
// it, deciding proposals, and asking beforehand what a change would do to the
// traffic recorded. Every change is one event with an actor and a reason, is
// tried on the state that the person saw before it is appended, and is refused
// when somebody else changed the policy meanwhile.
package operator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// The errors that callers tell apart, besides a *StaleError.
var (
	// ErrRefused: the change would have no effect or is not allowed, and was
	// not made.
	ErrRefused = errors.New("refused")
	// ErrNotFound: the log knows no such policy, rule or proposal.
	ErrNotFound = errors.New("not found")
	// ErrUnchanged: it is so already.
	ErrUnchanged = errors.New("unchanged")
	// ErrInvalid: what was asked for makes no sense.
	ErrInvalid = errors.New("invalid")
)

// refusal is an error with its sentinel, which is not printed.
type refusal struct {
	text string
	kind error
}

func (e *refusal) Error() string { return e.text }
func (e *refusal) Unwrap() error { return e.kind }

func refusedf(format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), ErrRefused}
}

func invalidf(format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), ErrInvalid}
}

func unchangedf(format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), ErrUnchanged}
}

func notFoundf(format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), ErrNotFound}
}

// Desk is where one person changes the policy log. It is not safe for
// concurrent use.
type Desk struct {
	log   *eventlog.Log
	actor string
	now   func() time.Time

	state   *policy.State
	entries []policy.Entry
	keep    bool
}

// Open reads the whole policy log.
func Open(ctx context.Context, log *eventlog.Log, actor string, now func() time.Time) (*Desk, error) {
	d := &Desk{log: log, actor: actor, now: now, state: policy.NewState()}
	return d, d.Refresh(ctx)
}

// State is the policy as it was read. Do not change it.
func (d *Desk) State() *policy.State { return d.state }

// Log is the event log that the policy log is in.
func (d *Desk) Log() *eventlog.Log { return d.log }

// KeepEstablished says of all drafts from now on whether the connections that
// stand already are left alone, though the change refuses them.
func (d *Desk) KeepEstablished(keep bool) { d.keep = keep }

// Refresh reads on in the log. An event that cannot be read has no effect
// here, as it has none anywhere.
func (d *Desk) Refresh(ctx context.Context) error {
	for e, err := range d.log.PolicyEvents(ctx, d.state.Revision()+1, false) {
		if errors.Is(err, eventlog.ErrMessage) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the policy log: %w", err)
		}
		d.entries = append(d.entries, policy.Entry(e))
		d.state.Apply(e.Revision, e.Event)
	}
	return ctx.Err()
}

// At is the state at a revision of the log; 0 is before the first event.
func (d *Desk) At(revision uint64) (*policy.State, error) {
	if revision > d.state.Revision() {
		return nil, notFoundf("the policy log ends at revision %d", d.state.Revision())
	}
	return policy.At(d.entries, revision), nil
}

// History tells what happened to a policy, to all for "".
func (d *Desk) History(name string) ([]policy.Record, error) {
	if err := d.known(name); name != "" && err != nil {
		return nil, err
	}
	return policy.History(d.entries, name), nil
}

// known refuses a policy that no event ever named.
func (d *Desk) known(name string) error {
	if d.state.LastSequence(name) == 0 {
		return notFoundf("there is no policy %q in the log", name)
	}
	return nil
}

// Done is a change that was made.
type Done struct {
	Policy string
	// Revision of the log that the change is; 0 when it was only tried.
	Revision uint64
	What     string
	Changes  []policy.Change
}

// Draft is a change that is ready to be appended. What it does was tried.
type Draft struct {
	Done
	event *schemas.PolicyEvent
	// seen is the revision whose rules the person saw.
	seen uint64
	// after is the state that it leads to.
	after *policy.State
}

// draft tries an event on the state that was read.
func (d *Desk) draft(e *schemas.PolicyEvent, seen uint64) (*Draft, error) {
	e.TimeNs, e.Actor, e.BasedOn, e.KeepEstablished = d.now().UnixNano(), d.actor, seen, d.keep
	trial, err := d.state.Clone()
	if err != nil {
		return nil, err
	}
	out := trial.Apply(d.state.Revision()+1, e)
	if out.Refused != "" {
		return nil, refusedf("%s", out.Refused)
	}
	return &Draft{Done{Policy: e.GetPolicy(), What: policy.Describe(e), Changes: out.Changes}, e, seen, trial}, nil
}

// retries bounds how often an append gives way to events that do not concern
// it, such as new proposals.
const retries = 20

// Append makes the change. A *StaleError tells what others changed meanwhile,
// and then nothing was appended.
func (d *Desk) Append(ctx context.Context, c *Draft) (Done, error) {
	name := c.event.GetPolicy()
	if err := d.stale(name, c.seen); err != nil {
		return Done{}, err
	}
	for range retries {
		revision, err := d.log.AppendPolicy(ctx, c.event, d.state.LastSequence(name))
		if revision > 0 {
			return d.appended(ctx, c, revision, err)
		}
		if !errors.Is(err, eventlog.ErrStale) {
			return Done{}, err
		}
		if err := d.Refresh(ctx); err != nil {
			return Done{}, err
		}
		if err := d.stale(name, c.seen); err != nil {
			return Done{}, err
		}
		again, err := d.draft(c.event, c.seen)
		if err != nil {
			return Done{}, err
		}
		c.Changes, c.after = again.Changes, again.after
	}
	return Done{}, refusedf("policy %s: its log moves on faster than it is read, or its last event cannot be read", name)
}

// appended reads the change back. An append that may not survive a power
// failure was made all the same.
func (d *Desk) appended(ctx context.Context, c *Draft, revision uint64, unsafe error) (Done, error) {
	done := c.Done
	done.Revision = revision
	if err := d.Refresh(ctx); err != nil {
		return done, errors.Join(unsafe, err)
	}
	for i := len(d.state.Refusals()) - 1; i >= 0; i-- {
		if r := d.state.Refusals()[i]; r.Revision == revision {
			return done, errors.Join(unsafe, refusedf("revision %d has no effect: %s", revision, r.Reason))
		}
	}
	return done, unsafe
}
