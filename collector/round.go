package collector

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
)

// roundBytes is how much of decoded events is in memory at once; more than that
// of one round of messages goes to the sink in parts.
const roundBytes = 8 << 20

// lateAfter makes a denial a late one: rules that look back from now over some
// minutes do not see it any more.
const lateAfter = 5 * time.Minute

// worker carries one stream to one target.
type worker struct {
	target, stream string
	sink           Sink
	morgue         *morgue
	metrics        *metrics

	groups map[Labels]*Group
	order  []*Group
	bytes  int
}

// deliver is what eventlog calls with each round of messages.
func (w *worker) deliver(ctx context.Context, messages []eventlog.Message) error {
	w.reset()
	for _, m := range messages {
		err := decode(m, func(l Labels, e Entry) error {
			w.add(l, e)
			if w.bytes < roundBytes {
				return nil
			}
			return w.flush(ctx)
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
	return w.flush(ctx)
}

func (w *worker) reset() {
	w.groups, w.order, w.bytes = map[Labels]*Group{}, nil, 0
}

func (w *worker) add(l Labels, e Entry) {
	g := w.groups[l]
	if g == nil {
		g = &Group{Labels: l}
		w.groups[l], w.order = g, append(w.order, g)
	}
	g.Entries = append(g.Entries, e)
	w.bytes += e.size()
}

// flush gives what has been gathered to the sink.
func (w *worker) flush(ctx context.Context) error {
	round := make([]Group, 0, len(w.order))
	for _, g := range w.order {
		slices.SortStableFunc(g.Entries, func(a, b Entry) int {
			switch {
			case a.TimeNs < b.TimeNs:
				return -1
			case a.TimeNs > b.TimeNs:
				return 1
			}
			return 0
		})
		round = append(round, *g)
	}
	if len(round) == 0 {
		return nil
	}
	if err := w.sink.Deliver(ctx, round); err != nil {
		return err
	}
	w.tell(round)
	w.reset()
	return nil
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
