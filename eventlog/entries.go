package eventlog

import (
	"context"
	"fmt"
	"iter"

	"github.com/egresswarden/egresswarden/schemas"
)

// FlowEntry is a message of EGW_FLOWS with its place in the stream.
type FlowEntry struct {
	Sequence uint64
	Flows    []*schemas.Flow
}

// FlowEntries gives the messages of all hosts from the sequence from on, that
// one included, for a reader that keeps its place itself; 0 and 1 give all.
// Without follow it ends at the last message that was there at the call. An
// error that is ErrMessage concerns one message alone, and comes with its
// sequence. A from that lies beyond the message after the last is ErrStale: the
// stream has been made anew, and its sequences with it.
func (l *Log) FlowEntries(ctx context.Context, from uint64, follow bool) iter.Seq2[FlowEntry, error] {
	return func(yield func(FlowEntry, error) bool) {
		s := span{stream: schemas.StreamFlows, subject: schemas.SubjectFlows + ".*", from: from}
		state, err := l.streamState(ctx, s.stream)
		if err == nil && from > state.LastSeq+1 {
			err = fmt.Errorf("read stream %s from %d: it ends at %d: %w", s.stream, from, state.LastSeq, ErrStale)
		}
		if err == nil && !follow {
			s.until = state.LastSeq + 1
		}
		ok := true
		if err == nil && (follow || from <= state.LastSeq && state.Msgs > 0) {
			err = l.each(ctx, s, func(e entry) bool {
				flows, err := decodeFlows(e)
				if err != nil {
					err = fmt.Errorf("%s %d: %w: %w", s.stream, e.sequence, ErrMessage, err)
				}
				ok = yield(FlowEntry{e.sequence, flows}, err)
				return ok
			})
		}
		if ok && err != nil && ctx.Err() == nil {
			yield(FlowEntry{}, err)
		}
	}
}
