package collector

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/grafana/loki-client-go/pkg/backoff"
	"golang.org/x/sync/errgroup"
)

// Bounds of a request: Loki's burst must hold it, and an entry larger than that
// goes alone.
const (
	batchBytes   = 1 << 20
	batchEntries = 10_000
	// batchSpan is how far apart in time the entries of a request are. When Loki
	// refuses one of them it has stored the others, the newest too; what is an
	// hour (half of its max_chunk_age) older than that would be refused when it
	// is sent once more, although Loki has it.
	batchSpan = 30 * time.Minute
)

// Loki is the sink of one Loki.
type Loki struct {
	poster   *poster
	morgue   *morgue
	problems *problems
	metrics  *metrics
	backoff  backoff.BackoffConfig
	// doubtAfter is after how many server errors in a row a batch is suspected
	// to provoke them; proofs is how often a single entry must do it, with a
	// control entry taken in between.
	doubtAfter, proofs int
	name               string // of the collector, in control entries
}

// atOnce is how many label sets are sent side by side.
const atOnce = 4

// Deliver sends each label set by itself.
func (k *Loki) Deliver(ctx context.Context, round []Group) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, group := range round {
		g.Go(func() error { return k.push(ctx, group) })
	}
	return g.Wait()
}

// push sends a label set's entries, batch after batch.
func (k *Loki) push(ctx context.Context, g Group) error {
	s := stream{Loki: k, labels: g.Labels, text: g.Labels.String()}
	defer k.problems.forget(s.text)
	for entries := g.Entries; len(entries) > 0; {
		n := firstBatch(entries)
		if err := s.send(ctx, entries[:n]); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// firstBatch is how many of the entries make the first request.
func firstBatch(entries []Entry) int {
	n, size := 0, 0
	for n < len(entries) && n < batchEntries {
		e := &entries[n]
		if size += e.size(); n > 0 && (size > batchBytes || e.TimeNs-entries[0].TimeNs > int64(batchSpan)) {
			break
		}
		n++
	}
	return n
}

// stream is what goes to Loki under one label set.
type stream struct {
	*Loki
	labels Labels
	text   string
}

// send returns when each of the entries is in Loki or parked, or the context
// has ended.
func (s *stream) send(ctx context.Context, entries []Entry) error {
	b := backoff.New(ctx, s.backoff)
	for faults := 0; ; {
		a := s.poster.post(ctx, s.text, entries)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		settled, err := false, error(nil)
		switch {
		case a.ok():
			s.problems.clear(s.text)
			return nil
		case a.refused():
			settled, err = s.refused(ctx, entries, a)
		case a.fault():
			if faults++; faults%s.doubtAfter == 0 {
				settled, err = s.suspect(ctx, entries, faults/s.doubtAfter)
			}
		default:
			faults = 0
		}
		if err != nil {
			return err
		}
		if settled {
			s.problems.clear(s.text)
			return nil
		}
		s.problems.set(s.text, s.poster.diagnose(a))
		s.metrics.retry(s.poster.target)
		if err := wait(ctx, b, a.retryAfter); err != nil {
			return err
		}
	}
}

// wait is the backoff's, or longer if the server asks for it.
func wait(ctx context.Context, b *backoff.Backoff, atLeast time.Duration) error {
	timer := time.NewTimer(max(b.NextDelay(), atLeast))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// halves sends the parts one after the other.
func (s *stream) halves(ctx context.Context, entries []Entry, at int) (bool, error) {
	if err := s.send(ctx, entries[:at]); err != nil {
		return false, err
	}
	return true, s.send(ctx, entries[at:])
}

// refused deals with a 400, 413 or 422. Loki has taken the good entries of a
// batch and refused the others without saying which: the batch is halved until
// the refused ones are alone. Not settled: it is not Loki who refuses, or not
// for the entries' sake.
func (s *stream) refused(ctx context.Context, entries []Entry, a answer) (settled bool, err error) {
	if n := older(entries, a.oldest()); n == len(entries) {
		return s.tooOld(ctx, entries, a)
	} else if n > 0 {
		return s.halves(ctx, entries, n)
	}
	if len(entries) > 1 {
		return s.halves(ctx, entries, len(entries)/2)
	}
	return s.judge(ctx, entries[0], a)
}

// older counts the entries before a time; they are sorted.
func older(entries []Entry, t time.Time) int {
	if t.IsZero() {
		return 0
	}
	n, _ := slices.BinarySearchFunc(entries, t.UnixNano(), func(e Entry, at int64) int {
		if e.TimeNs < at {
			return -1
		}
		return 1
	})
	return n
}

// suspect deals with a batch that Loki has answered with server errors again
// and again. If it takes a control entry of the same stream and time meanwhile,
// the batch is to blame: it is halved until the entry is alone.
func (s *stream) suspect(ctx context.Context, entries []Entry, proofs int) (settled bool, err error) {
	if !s.control(ctx, entries[0]).ok() {
		return false, nil
	}
	a := s.poster.post(ctx, s.text, entries)
	switch {
	case a.ok():
		return true, nil
	case !a.fault():
		return false, ctx.Err()
	case len(entries) > 1:
		return s.halves(ctx, entries, len(entries)/2)
	case proofs < s.proofs:
		return false, nil
	}
	return true, s.park(ctx, entries[0], a)
}

func (s *stream) park(ctx context.Context, e Entry, a answer) error {
	reason, _ := a.reason()
	return s.morgue.park(ctx, letter(s.labels, e, reason, http.StatusText(a.status)+": "+a.shortBody()))
}
