package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/egresswarden/egresswarden/schemas"
)

// Headers of a message of EGW_FLOWS. The counts are of decisions by verdict.
const (
	headerBoot      = "Egw-Boot"
	headerEnd       = "Egw-End"
	headerFlows     = "Egw-Flows"
	headerAllow     = "Egw-Allow"
	headerDeny      = "Egw-Deny"
	headerWouldDeny = "Egw-Would-Deny"
)

// sender is the half of a FlowWriter that talks to the server.
type sender struct {
	w   *FlowWriter
	log *slog.Logger

	known    bool   // expected is what the server has
	expected uint64 // sequence of the host's last message, 0 for none
	room     room
	buffer   []byte // of the pack on its way
}

// run sends pack after pack until the context ends.
func (s *sender) run(ctx context.Context) {
	wait := retryMin
	broken := false
	for {
		k, ok := s.next(ctx)
		if !ok {
			return
		}
		writing := s.known // else it reads where to go on
		err := s.send(ctx, k)
		if err == nil {
			if broken && writing {
				s.log.Info("flows are written again")
				broken = false
			}
			wait = retryMin
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if !broken {
			s.log.Warn("flows wait for the event log", "err", err)
		}
		broken = true
		if pause(ctx, &wait) != nil {
			return
		}
	}
}

// next waits for something to send. What is sent stays with the writer until
// it is acknowledged.
func (s *sender) next(ctx context.Context) (pack, bool) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.until(ctx, func() bool { return len(s.w.pieces) > 0 }) != nil {
		return pack{}, false
	}
	limit := messageBytes
	if most := int(s.w.l.nc.MaxPayload()) - 4<<10; most > 0 {
		limit = min(limit, most)
	}
	k := join(s.w.pieces, limit, s.buffer)
	s.buffer = k.data
	return k, true
}

// send makes one attempt. Nil means that there has been progress.
func (s *sender) send(ctx context.Context, k pack) error {
	if !s.known {
		return s.learn(ctx)
	}
	if k.flows == 0 {
		s.settle(k.end)
		return nil
	}
	ack, err := s.publish(ctx, k)
	switch {
	case err == nil:
		// A duplicate's answer names where these very flows are; others may
		// have come behind them.
		s.expected, s.known = ack.Sequence, !ack.Duplicate
		s.settle(k.end)
		return nil
	case isWrongSequence(err):
		return s.learn(ctx)
	case isFull(err):
		return s.makeRoom(ctx, len(k.data), err)
	}
	s.known = false
	return fmt.Errorf("publish %d flows: %w", k.flows, err)
}

func (s *sender) settle(position uint64) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.settle(position)
}

func (s *sender) publish(ctx context.Context, k pack) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	m := &nats.Msg{Subject: s.w.subject, Data: k.data, Header: nats.Header{
		headerBoot:      {s.w.boot},
		headerEnd:       {strconv.FormatUint(k.end, 10)},
		headerFlows:     {strconv.Itoa(k.flows)},
		headerAllow:     {strconv.FormatUint(k.tally.allow, 10)},
		headerDeny:      {strconv.FormatUint(k.tally.deny, 10)},
		headerWouldDeny: {strconv.FormatUint(k.tally.wouldDeny, 10)},
	}}
	id := schemas.Token(s.w.host) + "/" + schemas.Token(s.w.boot) + "/" +
		strconv.FormatUint(k.start, 10) + "-" + strconv.FormatUint(k.end, 10)
	return s.w.l.js.PublishMsg(ctx, m, jetstream.WithMsgID(id), jetstream.WithRetryAttempts(0),
		jetstream.WithExpectStream(schemas.StreamFlows), jetstream.WithExpectLastSequencePerSubject(s.expected))
}

// learn reads where the host's flows end in the stream.
func (s *sender) learn(ctx context.Context) error {
	position, ok, err := s.last(ctx)
	if err != nil {
		return fmt.Errorf("read the last flows: %w", err)
	}
	if ok {
		s.settle(position)
	}
	return nil
}

// last reads the host's last message; not ok if it is of another boot, or
// there is none.
func (s *sender) last(ctx context.Context) (position uint64, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	s.known = false
	stream, err := s.w.l.js.Stream(ctx, schemas.StreamFlows)
	if err != nil {
		return 0, false, err
	}
	m, err := stream.GetLastMsgForSubject(ctx, s.w.subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		s.expected, s.known = 0, true
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	s.expected, s.known = m.Sequence, true
	if m.Header.Get(headerBoot) != s.w.boot {
		return 0, false, nil
	}
	position, err = strconv.ParseUint(m.Header.Get(headerEnd), 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("header %s of %s %d: %w", headerEnd, schemas.StreamFlows, m.Sequence, err)
	}
	return position, true, nil
}

// resume is what Resume does once, before the sender runs.
func (s *sender) resume(ctx context.Context) (position uint64, ok bool, err error) {
	if err := s.finishRoom(ctx); err != nil {
		return 0, false, err
	}
	return s.last(ctx)
}
