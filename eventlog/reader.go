package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	fetchMessages = 64
	fetchWait     = 2 * time.Second
	requestWait   = 5 * time.Second
	publishWait   = 2 * time.Second // a pack's; what comes of it is read from the stream
	retryMin      = 20 * time.Millisecond
	retryMax      = time.Second
	idleConsumer  = time.Minute
)

// span is a part of a stream to read, in order and without a gap.
type span struct {
	stream, subject string
	// from is the first sequence wanted, 0 for the first of all; since, if set,
	// is used instead.
	from  uint64
	since time.Time
	// until is the first sequence not wanted any more; 0 follows the stream.
	until       uint64
	headersOnly bool
}

// entry is a message of a stream.
type entry struct {
	jetstream.Msg
	sequence uint64
	time     time.Time
}

// each calls fn for each message until fn says false, the span ends or the
// context does. What interrupts it (server gone, messages dropped on the way)
// is made good by reading again behind the last message that fn got.
func (l *Log) each(ctx context.Context, s span, fn func(entry) bool) error {
	wait := retryMin
	for {
		last, done, err := l.pass(ctx, s, fn)
		if done || ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("read stream %s: %w", s.stream, ErrNotFound)
		}
		if errors.Is(err, errClosedConn) {
			return fmt.Errorf("read stream %s: %w", s.stream, ErrClosed)
		}
		if last != 0 {
			s.from, s.since, wait = last+1, time.Time{}, retryMin
			if s.until != 0 && s.from >= s.until {
				return nil
			}
		}
		if err != nil {
			l.log.Debug("stream read interrupted", "stream", s.stream, "err", err)
		}
		if err := pause(ctx, &wait); err != nil {
			return err
		}
	}
}

// pass reads with one consumer until something is wrong with it. It returns
// the last sequence given to fn, 0 for none.
func (l *Log) pass(ctx context.Context, s span, fn func(entry) bool) (last uint64, done bool, err error) {
	if l.nc.IsClosed() {
		return 0, false, errClosedConn
	}
	consumer, pending, err := l.newConsumer(ctx, s)
	if err != nil {
		return 0, false, err
	}
	defer l.dropConsumer(ctx, s.stream, consumer)
	if pending == 0 && s.until != 0 {
		return 0, true, nil
	}
	p := passing{span: s, log: l, consumer: consumer, next: 1}
	for !done && err == nil {
		done, err = p.fetch(ctx, fn)
	}
	return p.last, done, err
}

// passing is one consumer's part of reading a span.
type passing struct {
	span
	log      *Log
	consumer jetstream.Consumer
	next     uint64 // the consumer numbers its messages: a gap shows
	last     uint64 // of the stream, that fn got
}

// fetch takes one batch.
func (p *passing) fetch(ctx context.Context, fn func(entry) bool) (done bool, err error) {
	fetchCtx, cancel := context.WithTimeout(ctx, fetchWait)
	defer cancel()
	batch, err := p.consumer.Fetch(fetchMessages, jetstream.FetchContext(fetchCtx))
	if err != nil {
		return ctx.Err() != nil, err
	}
	got := false
	for msg := range batch.Messages() {
		meta, err := msg.Metadata()
		if err != nil || meta.Sequence.Consumer != p.next {
			return false, errGap
		}
		e := entry{Msg: msg, sequence: meta.Sequence.Stream, time: meta.Timestamp}
		if ctx.Err() != nil || p.until != 0 && e.sequence >= p.until || !fn(e) {
			return true, nil
		}
		p.last, p.next, got = e.sequence, p.next+1, true
		if p.until != 0 && meta.NumPending == 0 {
			return true, nil
		}
	}
	if ctx.Err() != nil {
		return true, nil
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return false, err
	}
	if !got && (p.until != 0 || !p.log.nc.IsConnected()) {
		return false, errGap // it promised messages, or it is gone
	}
	return false, nil
}

var (
	errGap        = errors.New("messages missing")
	errClosedConn = errors.New("connection closed")
)

func (l *Log) newConsumer(ctx context.Context, s span) (jetstream.Consumer, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	config := jetstream.ConsumerConfig{
		FilterSubject: s.subject, AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true,
		InactiveThreshold: idleConsumer, HeadersOnly: s.headersOnly, Replicas: 1,
		DeliverPolicy: jetstream.DeliverAllPolicy,
	}
	switch {
	case !s.since.IsZero():
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &s.since
	case s.from > 0:
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, s.from
	}
	consumer, err := l.js.CreateConsumer(ctx, s.stream, config)
	if err != nil {
		return nil, 0, err
	}
	return consumer, consumer.CachedInfo().NumPending, nil
}

// dropConsumer spares the server an idle consumer; without it the server
// forgets it after idleConsumer.
func (l *Log) dropConsumer(ctx context.Context, stream string, c jetstream.Consumer) {
	if !l.nc.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestWait)
	defer cancel()
	_ = l.js.DeleteConsumer(ctx, stream, c.CachedInfo().Name)
}

// pause waits, and doubles the wait for the next time.
func pause(ctx context.Context, wait *time.Duration) error {
	timer := time.NewTimer(*wait)
	defer timer.Stop()
	*wait = min(*wait*2, retryMax)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
