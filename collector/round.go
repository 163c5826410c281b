package collector

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/eventlog"
)

// partBytes is how much of decoded events goes to the sink at once. While it is
// on its way the next part is decoded, and no more: three parts are in memory.
const partBytes = 4 << 20

// lateAfter makes a denial a late one: rules that look back from now over some
// minutes do not see it any more.
const lateAfter = 5 * time.Minute

// worker carries one stream to one target.
type worker struct {
	target, stream string
	sink           Sink
	morgue         *morgue
	metrics        *metrics

	decoder decoder
	part    part
}

// part is the entries that are being gathered.
type part struct {
	groups map[Labels]*Group
	order  []*Group
	bytes  int
}

// deliver is what eventlog calls with each round of messages.
func (w *worker) deliver(ctx context.Context, messages []eventlog.Message) error {
	g, ctx := errgroup.WithContext(ctx)
	parts := make(chan []Group)
	g.Go(func() error {
		for part := range parts {
			if err := w.sink.Deliver(ctx, part); err != nil {
				return err
			}
			w.tell(part)
		}
		return nil
	})
	g.Go(func() error {
		defer close(parts)
		return w.gather(ctx, messages, parts)
	})
	return g.Wait()
}

// gather decodes messages and hands the entries on, part by part.
func (w *worker) gather(ctx context.Context, messages []eventlog.Message, parts chan<- []Group) error {
	w.part = part{groups: map[Labels]*Group{}}
	flush := func() error {
		if len(w.part.order) == 0 {
			return nil
		}
		select {
		case parts <- w.part.sorted():
		case <-ctx.Done():
			return ctx.Err()
		}
		w.part = part{groups: map[Labels]*Group{}}
		return nil
	}
	for _, m := range messages {
		err := w.decoder.decode(m, func(l Labels, e Entry) error {
			if w.part.add(l, e); w.part.bytes < partBytes {
				return nil
			}
			return flush()
		})
		if errors.Is(err, errUnreadable) {
			err = w.morgue.park(ctx, eventlog.DeadLetter{
				Stream: m.Stream, Sequence: m.Sequence, Reason: "unreadable", Error: err.Error(),
				Payload: m.Data, Redelivered: m.Delivered > 1,
			})
		}
		if err != nil {
			return err
		}
	}
	return flush()
}

func (p *part) add(l Labels, e Entry) {
	g := p.groups[l]
	if g == nil {
		g = &Group{Labels: l}
		p.groups[l], p.order = g, append(p.order, g)
	}
	g.Entries = append(g.Entries, e)
	p.bytes += e.size()
}

// sorted gives the groups, each sorted by time.
func (p *part) sorted() []Group {
	groups := make([]Group, 0, len(p.order))
	for _, g := range p.order {
		byTime := func(a, b Entry) int { return cmp.Compare(a.TimeNs, b.TimeNs) }
		if !slices.IsSortedFunc(g.Entries, byTime) {
			slices.SortStableFunc(g.Entries, byTime)
		}
		groups = append(groups, *g)
	}
	return groups
}

// tell counts what was delivered.
func (w *worker) tell(round []Group) {
	n, late, before := 0, uint64(0), time.Now().Add(-lateAfter).UnixNano()
	for _, g := range round {
		n += len(g.Entries)
		if g.Labels.Service != ServiceFlows || g.Labels.Verdict != "deny" {
			continue
		}
		for i := range g.Entries {
			if g.Entries[i].TimeNs < before {
				late += g.Entries[i].count
			}
		}
	}
	w.metrics.deliver(w.target, w.stream, n, late)
}
