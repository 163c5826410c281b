package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// Replay asks what a candidate would have done to the traffic recorded.
type Replay struct {
	Candidate policy.Candidate
	Since     time.Time
	// Workload and Policy, if set, leave out the traffic of others.
	Workload, Policy string
}

// Replayed is the answer.
type Replayed struct {
	policy.Result
	// Since is how far back was looked.
	Since time.Time
	// Revision of the policy that was replayed.
	Revision uint64
	// Lost decisions were recorded and had to be deleted for want of room; of
	// any workload.
	Lost uint64
	// Unreadable messages of the stream.
	Unreadable int
}

// Foresee judges the flows of a draft's policy, recorded since a time, under
// what the draft leads to. Labels are the modes of workloads whose override it
// takes back; without one the mode is as recorded.
func (d *Desk) Foresee(ctx context.Context, c *Draft, since time.Time, labels map[string]policy.Mode) (Replayed, error) {
	q := Replay{Since: since, Candidate: policy.Candidate{State: c.after, Modes: map[string]policy.Mode{}}}
	if c.Policy != policy.Everyone {
		q.Policy = c.Policy
	}
	for _, change := range c.Changes {
		if change.Op == "mode" {
			q.Candidate.Modes[change.Workload] = cmp.Or(change.To, labels[change.Workload])
		}
	}
	r, err := d.Replay(ctx, q)
	r.Revision = d.state.Revision() // the draft has none yet
	return r, err
}

// Replay judges the flows recorded since a time.
func (d *Desk) Replay(ctx context.Context, q Replay) (Replayed, error) {
	out := Replayed{Since: q.Since}
	if q.Candidate.State == nil {
		q.Candidate.State = d.state
	}
	out.Revision = q.Candidate.State.Revision()
	q.Candidate.Now = d.now()
	r := policy.NewReplay(q.Candidate)
	for f, err := range d.log.Flows(ctx, eventlog.FlowQuery{Since: q.Since, Match: q.match}) {
		if errors.Is(err, eventlog.ErrMessage) {
			out.Unreadable++
			continue
		}
		if err != nil {
			return out, fmt.Errorf("replay: %w", err)
		}
		if err := r.Add(f); err != nil {
			return out, err
		}
	}
	out.Result = r.Result()
	return out, errors.Join(d.lost(ctx, &out), ctx.Err())
}

func (q Replay) match(f *schemas.Flow) bool {
	return (q.Workload == "" || f.GetWorkload() == q.Workload) && (q.Policy == "" || f.GetPolicy() == q.Policy)
}

// lost adds up what the streams tell of deleted flows.
func (d *Desk) lost(ctx context.Context, out *Replayed) error {
	full := func(e *schemas.HostEvent) bool { return e.GetKind() == schemas.KindOutboxFull }
	for e, err := range d.log.HostEvents(ctx, eventlog.HostQuery{Since: out.Since, Match: full}) {
		if errors.Is(err, eventlog.ErrMessage) {
			out.Unreadable++
			continue
		}
		if err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		out.Lost += e.GetCount()
	}
	return nil
}
