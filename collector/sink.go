package collector

import (
	"context"
	"time"

	"github.com/grafana/loki-client-go/pkg/backoff"

	"github.com/egresswarden/egresswarden/eventlog"
)

// Sink is where entries go.
type Sink interface {
	// Deliver takes a round. It returns when the sink has every entry for good,
	// or has parked it: then the messages are acknowledged. It tries for ever, so
	// that an error is the context's end, or the end of the sink.
	Deliver(ctx context.Context, round []Group) error
}

// Group is the entries of one label set, sorted by time.
type Group struct {
	Labels  Labels
	Entries []Entry
}

// Waits between attempts.
const (
	firstWait = 200 * time.Millisecond
	mostWait  = 30 * time.Second
	// mostRetryAfter bounds what a server may ask for.
	mostRetryAfter = 10 * time.Minute
)

func (c Config) backoff() backoff.BackoffConfig {
	b := backoff.BackoffConfig{MinBackoff: firstWait, MaxBackoff: mostWait}
	if c.wait != 0 { // tests
		b.MinBackoff, b.MaxBackoff = c.wait, 4*c.wait
	}
	return b
}

// morgue parks entries that a sink will never take.
type morgue struct {
	events   *eventlog.Log
	consumer string
	problems *problems
	metrics  *metrics
	backoff  backoff.BackoffConfig
}

// park returns when EGW_DEAD has the letter or the context ends.
func (m *morgue) park(ctx context.Context, d eventlog.DeadLetter) error {
	const key = "dead letters"
	d.Consumer, d.Time = m.consumer, time.Now()
	b := backoff.New(ctx, m.backoff)
	defer m.problems.forget(key) // somebody else may go on
	for {
		err := m.events.PublishDead(ctx, d)
		switch {
		case err == nil:
			m.problems.clear(key)
			m.metrics.dead.WithLabelValues(m.consumer, d.Reason).Inc()
			m.problems.log.Warn("an event is parked in EGW_DEAD: the sink will never take it",
				"reason", d.Reason, "err", d.Error, "stream", d.Stream, "sequence", d.Sequence, "event_id", d.EventID)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		}
		m.problems.set(key, "EGW_DEAD cannot be written, so what is to be parked is held: "+err.Error())
		b.Wait()
	}
}

// letter is an entry's dead letter.
func letter(l Labels, e Entry, reason, text string) eventlog.DeadLetter {
	labels := map[string]string{}
	for name, value := range l.Set() {
		labels[string(name)] = string(value)
	}
	return eventlog.DeadLetter{
		Stream: e.place.stream, Sequence: e.place.sequence, Index: e.place.index, Redelivered: e.place.redelivered,
		Reason: reason, Error: text, EventID: e.EventID, EventTime: time.Unix(0, e.TimeNs).UTC(), Labels: labels, Entry: e.Line,
	}
}
