package eventlog

import (
	"context"
	"time"

	"github.com/egresswarden/egresswarden/schemas"
)

// End is how far a stream goes. One of the same name that was made anew has
// another Made.
type End struct {
	Made time.Time
	// Last is the sequence of the last message; 0 before the first.
	Last uint64
}

// PolicyEnd is the end of the policy log.
func (l *Log) PolicyEnd(ctx context.Context) (End, error) { return l.end(ctx, schemas.StreamPolicy) }

// FlowEnd is the end of the stream of flows.
func (l *Log) FlowEnd(ctx context.Context) (End, error) { return l.end(ctx, schemas.StreamFlows) }

func (l *Log) end(ctx context.Context, stream string) (End, error) {
	info, err := l.streamInfo(ctx, stream)
	if err != nil {
		return End{}, err
	}
	return End{info.Created, info.State.LastSeq}, nil
}
