package eventlog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/egresswarden/egresswarden/schemas"
)

// PublishHost appends an event of a host. It tries until the server has it or
// the context ends. Retries leave no duplicate, unless the server was away for
// longer than two minutes just when it had taken the event.
func (l *Log) PublishHost(ctx context.Context, e *schemas.HostEvent) error {
	data, err := schemas.MarshalJSON(e)
	if err != nil {
		return err
	}
	_, err = l.append(ctx, &nats.Msg{Subject: schemas.HostSubject(e.GetHost()), Data: data}, schemas.StreamHosts)
	return err
}

// append publishes a message once, under an id of its own, however often it
// has to be tried. A refusal by the server is final.
func (l *Log) append(ctx context.Context, m *nats.Msg, stream string, opts ...jetstream.PublishOpt) (uint64, error) {
	return l.appendOnce(ctx, nuid.Next(), m, stream, opts...)
}

// appendOnce is append under a given id: what the stream took under it within
// the last two minutes is not taken again.
func (l *Log) appendOnce(ctx context.Context, id string, m *nats.Msg, stream string, opts ...jetstream.PublishOpt) (uint64, error) {
	opts = append(opts, jetstream.WithMsgID(id), jetstream.WithExpectStream(stream))
	wait := retryMin
	for {
		request, cancel := context.WithTimeout(ctx, requestWait)
		ack, err := l.js.PublishMsg(request, m, opts...)
		cancel()
		switch {
		case err == nil:
			return ack.Sequence, nil
		case isWrongSequence(err):
			return 0, fmt.Errorf("append to %s: %w", m.Subject, ErrStale)
		case errors.Is(err, nats.ErrMaxPayload):
			return 0, fmt.Errorf("append to %s: %d bytes are more than the %d that the server takes as one event: make it smaller, "+
				"or raise max_payload of an external server: %w", m.Subject, len(m.Data), l.nc.MaxPayload(), err)
		case apiCode(err) != 0 && !isFull(err):
			return 0, fmt.Errorf("append to %s: %w", m.Subject, err)
		case l.nc.IsClosed():
			return 0, fmt.Errorf("append to %s: %w", m.Subject, ErrClosed)
		}
		l.log.Debug("append is tried again", "subject", m.Subject, "err", err)
		if pauseErr := pause(ctx, &wait); pauseErr != nil {
			return 0, fmt.Errorf("append to %s: %w: last: %w", m.Subject, pauseErr, err)
		}
	}
}

// HostEvents gives the events of the hosts that the query asks for.
func (l *Log) HostEvents(ctx context.Context, q HostQuery) iter.Seq2[*schemas.HostEvent, error] {
	subject := schemas.SubjectHosts + ".*"
	if q.Host != "" {
		subject = schemas.HostSubject(q.Host)
	}
	return read(ctx, l, feed[*schemas.HostEvent]{
		stream: schemas.StreamHosts, subject: subject,
		decode: func(e entry) ([]*schemas.HostEvent, error) {
			var event schemas.HostEvent
			if err := schemas.UnmarshalJSON(e.Data(), &event); err != nil {
				return nil, err
			}
			return []*schemas.HostEvent{&event}, nil
		},
		timeNs: (*schemas.HostEvent).GetTimeNs,
	}, q)
}

// Hosts names every host that the streams know, sorted. A collector that tells
// of itself is none.
func (l *Log) Hosts(ctx context.Context) ([]string, error) {
	known := map[string]bool{}
	for stream, subject := range map[string]string{
		schemas.StreamHosts: schemas.SubjectHosts + ".*", schemas.StreamFlows: schemas.SubjectFlows + ".*",
	} {
		s, err := l.js.Stream(ctx, stream)
		if err != nil {
			return nil, fmt.Errorf("list hosts of %s: %w", stream, err)
		}
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(subject))
		if err != nil {
			return nil, fmt.Errorf("list hosts of %s: %w", stream, err)
		}
		for subject := range info.State.Subjects {
			host, err := schemas.LastToken(subject)
			if err == nil && !strings.HasPrefix(host, schemas.CollectorPrefix) {
				known[host] = true
			}
		}
	}
	hosts := make([]string, 0, len(known))
	for host := range known {
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	return hosts, nil
}
