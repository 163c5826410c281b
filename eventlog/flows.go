package eventlog

import (
	"context"
	"iter"

	"google.golang.org/protobuf/proto"

	"github.com/egresswarden/egresswarden/schemas"
)

// FlowQuery says which flows are wanted.
type FlowQuery = Query[*schemas.Flow]

// HostQuery says which host events are wanted.
type HostQuery = Query[*schemas.HostEvent]

// Flows gives the flows that the query asks for, in the order of the stream.
// An error that is ErrMessage concerns one message alone; any other is the last
// thing given. A missing stream is ErrNotFound.
func (l *Log) Flows(ctx context.Context, q FlowQuery) iter.Seq2[*schemas.Flow, error] {
	subject := schemas.SubjectFlows + ".*"
	if q.Host != "" {
		subject = schemas.FlowSubject(q.Host)
	}
	return read(ctx, l, feed[*schemas.Flow]{
		stream: schemas.StreamFlows, subject: subject,
		decode: decodeFlows,
		timeNs: (*schemas.Flow).GetTimeNs,
	}, q)
}

func decodeFlows(e entry) ([]*schemas.Flow, error) {
	var batch schemas.FlowBatch
	if err := proto.Unmarshal(e.Data(), &batch); err != nil {
		return nil, err
	}
	return batch.GetFlows(), nil
}
