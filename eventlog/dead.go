package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/egresswarden/egresswarden/schemas"
)

// DeadLetter is an event that a consumer could not deliver, in EGW_DEAD.
type DeadLetter struct {
	Consumer string `json:"consumer"`
	// Stream and Sequence are of the message that the event lies in; Index is
	// its place in there.
	Stream   string `json:"stream"`
	Sequence uint64 `json:"sequence"`
	Index    int    `json:"index"`
	// Reason is one word, Error what was said.
	Reason string    `json:"reason"`
	Error  string    `json:"error,omitempty"`
	Time   time.Time `json:"time"`
	// EventID, EventTime and Labels are as they would have been delivered.
	EventID   string            `json:"event_id,omitempty"`
	EventTime time.Time         `json:"event_time,omitzero"`
	Labels    map[string]string `json:"labels,omitempty"`
	// Entry is the line as it would have been delivered; Payload is a message
	// that cannot be read, as it is.
	Entry   string `json:"entry,omitempty"`
	Payload []byte `json:"payload,omitempty"`
	// Redelivered: an earlier attempt may have delivered it.
	Redelivered bool `json:"redelivered,omitempty"`
	// Cut: it was too large for a message, and lies whole in its stream alone.
	Cut bool `json:"cut,omitempty"`
}

// cutBytes is what is left of an event that is too large.
const cutBytes = 4 << 10

// PublishDead parks an event. It tries until EGW_DEAD has it or the context
// ends.
func (l *Log) PublishDead(ctx context.Context, d DeadLetter) error {
	id := fmt.Sprintf("dead/%s/%s/%d/%d", schemas.Token(d.Consumer), d.Stream, d.Sequence, d.Index)
	err := l.publishDead(ctx, id, d)
	if errors.Is(err, nats.ErrMaxPayload) {
		d.Cut = true
		d.Entry, d.Payload = d.Entry[:min(len(d.Entry), cutBytes)], d.Payload[:min(len(d.Payload), cutBytes)]
		d.Error = d.Error[:min(len(d.Error), cutBytes)]
		err = l.publishDead(ctx, id, d)
	}
	return err
}

func (l *Log) publishDead(ctx context.Context, id string, d DeadLetter) error {
	data, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode dead letter: %w", err)
	}
	_, err = l.appendOnce(ctx, id, &nats.Msg{Subject: schemas.DeadSubject(d.Consumer), Data: data}, schemas.StreamDead)
	return err
}

// DeadEntry is a dead letter with its place in EGW_DEAD.
type DeadEntry struct {
	ID     uint64
	Letter DeadLetter
}

// DeadLetters gives what consumers could not deliver, oldest first. The query's
// Host is not looked at.
func (l *Log) DeadLetters(ctx context.Context, q Query[DeadEntry]) iter.Seq2[DeadEntry, error] {
	return read(ctx, l, feed[DeadEntry]{
		stream: schemas.StreamDead, subject: schemas.SubjectDead + ".*",
		decode: func(e entry) ([]DeadEntry, error) {
			d := DeadEntry{ID: e.sequence}
			if err := json.Unmarshal(e.Data(), &d.Letter); err != nil {
				return nil, fmt.Errorf("decode dead letter: %w", err)
			}
			return []DeadEntry{d}, nil
		},
		timeNs: func(d DeadEntry) int64 { return d.Letter.Time.UnixNano() },
	}, q)
}

// DeadLetter is the one with that ID; ErrNotFound: it is not there, or not any
// more.
func (l *Log) DeadLetter(ctx context.Context, id uint64) (DeadEntry, error) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	m, err := l.deadMessage(ctx, id)
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrMsgNotFound) {
		err = ErrNotFound
	}
	if err != nil {
		return DeadEntry{}, fmt.Errorf("read dead letter %d: %w", id, err)
	}
	d := DeadEntry{ID: id}
	if err := json.Unmarshal(m.Data, &d.Letter); err != nil {
		return DeadEntry{}, fmt.Errorf("decode dead letter %d: %w: %w", id, ErrMessage, err)
	}
	return d, nil
}

func (l *Log) deadMessage(ctx context.Context, id uint64) (*jetstream.RawStreamMsg, error) {
	if id == 0 { // to the server any
		return nil, jetstream.ErrMsgNotFound
	}
	stream, err := l.js.Stream(ctx, schemas.StreamDead)
	if err != nil {
		return nil, err
	}
	return stream.GetMsg(ctx, id)
}

// DeadCount is how many events were ever parked in EGW_DEAD, also those that are
// no longer there.
func (l *Log) DeadCount(ctx context.Context) (uint64, error) {
	state, err := l.streamState(ctx, schemas.StreamDead)
	return state.LastSeq, err
}
