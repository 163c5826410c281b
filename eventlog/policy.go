package eventlog

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/egresswarden/egresswarden/schemas"
)

// PolicyEntry is an event of the policy log with its place in it.
type PolicyEntry struct {
	Revision uint64
	Event    *schemas.PolicyEvent
}

// AppendPolicy appends an event to the log of its policy, if the last event of
// that policy still has the revision expected (0: there is none), and gives its
// own revision. Otherwise the error is ErrStale and nothing was appended. An
// embedded server has written the event to the disk when AppendPolicy returns;
// how soon another server does is its own configuration (sync_interval).
func (l *Log) AppendPolicy(ctx context.Context, e *schemas.PolicyEvent, expected uint64) (uint64, error) {
	revision, err := l.AppendPolicyUnsynced(ctx, e, expected)
	if err != nil {
		return 0, err
	}
	if err := l.SyncPolicy(ctx); err != nil {
		return revision, fmt.Errorf("append to %s: revision %d may not survive a power failure: %w",
			schemas.PolicySubject(e.GetPolicy()), revision, err)
	}
	return revision, nil
}

// AppendPolicyUnsynced is AppendPolicy without the wait for the disk. It is for
// one of many events that come at once, with a SyncPolicy every few: whoever
// reads the log may hold an event already that a power failure takes back.
func (l *Log) AppendPolicyUnsynced(ctx context.Context, e *schemas.PolicyEvent, expected uint64) (uint64, error) {
	data, err := schemas.MarshalJSON(e)
	if err != nil {
		return 0, err
	}
	m := &nats.Msg{Subject: schemas.PolicySubject(e.GetPolicy()), Data: data}
	return l.append(ctx, m, schemas.StreamPolicy, jetstream.WithExpectLastSequencePerSubject(expected))
}

// SyncPolicy returns when an embedded server has the policy log on the disk; any
// other server does not know the question.
func (l *Log) SyncPolicy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	reply, err := l.nc.RequestWithContext(ctx, syncSubject, nil)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil
	}
	if err != nil {
		return err
	}
	return answerError(reply)
}

// PolicyEvents gives the policy log from the revision from on, that one
// included; 0 and 1 give all. Without follow it ends at the last event that was
// there at the call. An error that is ErrMessage concerns one event alone.
func (l *Log) PolicyEvents(ctx context.Context, from uint64, follow bool) iter.Seq2[PolicyEntry, error] {
	return func(yield func(PolicyEntry, error) bool) {
		s := span{stream: schemas.StreamPolicy, subject: schemas.SubjectPolicy + ".*", from: from}
		state, err := l.streamState(ctx, s.stream)
		if err == nil && !follow {
			s.until = state.LastSeq + 1
		}
		ok := true
		if err == nil && s.from <= state.LastSeq || follow && err == nil {
			err = l.each(ctx, s, func(e entry) bool {
				ok = yield(decodePolicy(e))
				return ok
			})
		}
		if ok && err != nil && ctx.Err() == nil {
			yield(PolicyEntry{}, err)
		}
	}
}

// PolicyRevision is the revision of the last event of the policy log.
func (l *Log) PolicyRevision(ctx context.Context) (uint64, error) {
	state, err := l.streamState(ctx, schemas.StreamPolicy)
	return state.LastSeq, err
}

func decodePolicy(e entry) (PolicyEntry, error) {
	var event schemas.PolicyEvent
	if err := schemas.UnmarshalJSON(e.Data(), &event); err != nil {
		return PolicyEntry{Revision: e.sequence},
			fmt.Errorf("%s %d: %w: %w", schemas.StreamPolicy, e.sequence, ErrMessage, err)
	}
	return PolicyEntry{Revision: e.sequence, Event: &event}, nil
}
