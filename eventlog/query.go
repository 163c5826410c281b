package eventlog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Query says which events are wanted.
type Query[T any] struct {
	// Since leaves out what is older; zero is no bound.
	Since time.Time
	// Last gives at most so many of the events that are there already, the
	// newest; 0 gives all, and a negative number none.
	Last int
	// Follow goes on with new events until the context ends.
	Follow bool
	// Host gives the events of one host; empty gives all.
	Host string
	// Match, if set, leaves out the events it says false to, before Last counts.
	Match func(T) bool
}

// feed is a kind of event in a stream.
type feed[T any] struct {
	stream, subject string
	decode          func(entry) ([]T, error)
	timeNs          func(T) int64
}

// read gives the events of a feed, oldest first. An error that is ErrMessage
// concerns one message alone; any other is the last thing given.
func read[T any](ctx context.Context, l *Log, f feed[T], q Query[T]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		p := &page[T]{feed: f, query: q}
		end, ok, err := p.history(ctx, l, yield)
		if err == nil && ok && q.Follow {
			err = l.each(ctx, span{stream: f.stream, subject: f.subject, from: end}, func(e entry) bool {
				ok = p.give(e, yield)
				return ok
			})
		}
		if ok && err != nil && ctx.Err() == nil {
			var none T
			yield(none, err)
		}
	}
}

type page[T any] struct {
	feed[T]
	query Query[T]
}

// history gives what is there already. It returns the sequence behind it.
func (p *page[T]) history(ctx context.Context, l *Log, yield func(T, error) bool) (end uint64, ok bool, err error) {
	state, err := l.streamState(ctx, p.stream)
	if err != nil {
		return 0, true, err
	}
	end, ok = state.LastSeq+1, true
	switch {
	case p.query.Last < 0 || state.Msgs == 0:
	case p.query.Last > 0:
		var found []result[T]
		if found, err = p.newest(ctx, l, state.FirstSeq, end); err != nil {
			return end, true, err
		}
		for _, r := range found {
			if ok = yield(r.value, r.err); !ok {
				break
			}
		}
	default:
		all := span{stream: p.stream, subject: p.subject, since: p.query.Since, until: end}
		err = l.each(ctx, all, func(e entry) bool {
			ok = p.give(e, yield)
			return ok
		})
	}
	return end, ok, err
}

type result[T any] struct {
	value T
	err   error
}

// give yields the wanted events of a message; false ends the reading.
func (p *page[T]) give(e entry, yield func(T, error) bool) bool {
	for _, r := range p.results(e) {
		if !yield(r.value, r.err) {
			return false
		}
	}
	return true
}

func (p *page[T]) results(e entry) []result[T] {
	values, err := p.decode(e)
	if err != nil {
		return []result[T]{{err: fmt.Errorf("%s %d: %w: %w", p.stream, e.sequence, ErrMessage, err)}}
	}
	found := make([]result[T], 0, len(values))
	for _, v := range values {
		if !p.query.Since.IsZero() && p.timeNs(v) < p.query.Since.UnixNano() {
			continue
		}
		if p.query.Match == nil || p.query.Match(v) {
			found = append(found, result[T]{value: v})
		}
	}
	return found
}

const firstChunk = 16

// newest reads the stream backwards in chunks of growing size until it has
// found the Last events, and gives them oldest first.
func (p *page[T]) newest(ctx context.Context, l *Log, first, end uint64) ([]result[T], error) {
	var found []result[T]
	for chunk := uint64(firstChunk); end > first && len(found) < p.query.Last; chunk *= 2 {
		from := first
		if end-first > chunk {
			from = end - chunk
		}
		var part []result[T]
		old := false
		err := l.each(ctx, span{stream: p.stream, subject: p.subject, from: from, until: end}, func(e entry) bool {
			old = old || e.time.Before(p.query.Since)
			part = append(part, p.results(e)...)
			if len(part) > 2*p.query.Last {
				part = append(part[:0:0], part[len(part)-p.query.Last:]...)
			}
			return true
		})
		if err != nil {
			return nil, err
		}
		found, end = append(part, found...), from
		if old {
			break
		}
	}
	return found[max(0, len(found)-p.query.Last):], nil
}

// streamState asks for the bounds of a stream, again and again while the
// server is away.
func (l *Log) streamState(ctx context.Context, name string) (jetstream.StreamState, error) {
	info, err := l.streamInfo(ctx, name)
	if err != nil {
		return jetstream.StreamState{}, err
	}
	return info.State, nil
}

func (l *Log) streamInfo(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	wait := retryMin
	for {
		request, cancel := context.WithTimeout(ctx, requestWait)
		stream, err := l.js.Stream(request, name)
		cancel()
		switch {
		case err == nil:
			return stream.CachedInfo(), nil
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return nil, fmt.Errorf("read stream %s: %w", name, ErrNotFound)
		case l.nc.IsClosed():
			return nil, fmt.Errorf("read stream %s: %w", name, ErrClosed)
		}
		if err := pause(ctx, &wait); err != nil {
			return nil, fmt.Errorf("read stream %s: %w", name, err)
		}
	}
}
