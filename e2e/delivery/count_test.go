package delivery

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/lineschema"
)

// key is what decisions are counted by.
type key struct{ container, verdict string }

// counts are decisions.
type counts map[key]uint64

func (c counts) total() (n uint64) {
	for _, x := range c {
		n += x
	}
	return n
}

// add leaves zeros out, so that counts compare.
func (c counts) add(container, verdict string, n uint64) {
	if n > 0 {
		c[key{container, verdict}] += n
	}
}

// inKernel are the kernel's counters of the containers.
func (c *crew) inKernel(t *testing.T, loads []*load) counts {
	t.Helper()
	g := c.gate(t)
	defer g.Close()
	all, err := g.Containers()
	if err != nil {
		t.Fatal(err)
	}
	out := counts{}
	for _, l := range loads {
		index, ok := all[l.c.ID]
		if !ok {
			t.Fatalf("the gate has forgotten %s", l.workload)
		}
		n, err := g.Counters(index)
		if err != nil {
			t.Fatal(err)
		}
		out.add(l.c.ID, "allow", n.Allow)
		out.add(l.c.ID, "deny", n.Deny)
		out.add(l.c.ID, "would_deny", n.WouldDeny)
	}
	return out
}

// told waits until the kernel holds nothing of them back: no counts in the flow
// table, and no record in the ring that NATS has not acknowledged.
func (c *crew) told(t *testing.T, loads []*load) {
	t.Helper()
	testutil.Eventually(t, "the kernel holds nothing back", func() error {
		g := c.gate(t)
		defer g.Close()
		left, err := g.Residue()
		all, listErr := g.Containers()
		if err = errors.Join(err, listErr); err != nil {
			return err
		}
		for _, l := range loads {
			if n := left[all[l.c.ID]]; n != (bpf.Counters{}) {
				return fmt.Errorf("of %s %+v are not told", l.workload, n)
			}
		}
		if n := g.Ring().Pending(); n > 0 {
			return fmt.Errorf("%d bytes of the ring are not acknowledged", n)
		}
		return nil
	})
}

// reading is what was read of events, whatever they were read from.
type reading struct {
	sum    counts
	ids    map[string]bool
	events int
	// overflow is how many of the decisions have no destination.
	overflow uint64
}

func newReading() *reading { return &reading{sum: counts{}, ids: map[string]bool{}} }

// line takes one line; a second one of the same event counts nothing.
func (r *reading) line(text string) error {
	if err := lineschema.Check([]byte(text)); err != nil {
		return err
	}
	var f struct {
		ID, Verdict, Reason string
		Container           string `json:"container_id"`
		Count               uint64
	}
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return err
	}
	r.events++
	if r.ids[f.ID] {
		return nil
	}
	r.ids[f.ID] = true
	r.sum.add(f.Container, f.Verdict, f.Count)
	if f.Reason == "overflow" {
		r.overflow += f.Count
	}
	return nil
}

// selector is the log query of a part's workloads.
func selector(part string) string {
	return fmt.Sprintf(`{service_name="egresswarden", host="%s", workload=~"%s-.*"}`, host, part)
}

// inLoki reads every line of a part's workloads, and holds each against the
// schema, and its labels and metadata against what is promised.
func (p *pipeline) inLoki(t *testing.T, part string, since time.Time) *reading {
	t.Helper()
	entries, err := p.loki.Lines(t.Context(), selector(part), since.Add(-time.Minute), time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	r := newReading()
	for _, e := range entries {
		if err := r.line(e.Line); err != nil {
			t.Fatal(err)
		}
		if len(e.Labels) != 4 || len(e.Metadata) != 2 || !r.ids[e.Metadata["event_id"]] {
			t.Fatalf("labels %v, metadata %v of %s", e.Labels, e.Metadata, e.Line)
		}
	}
	return r
}

// dead reads the dead letters of the part's events into the reading.
func (r *reading) dead(t *testing.T, l *eventlog.Log, loads []*load) (n int) {
	t.Helper()
	mine := map[string]bool{}
	for _, one := range loads {
		mine[one.workload] = true
	}
	for d, err := range l.DeadLetters(t.Context(), eventlog.Query[eventlog.DeadEntry]{}) {
		if err != nil {
			t.Fatal(err)
		}
		if !mine[d.Letter.Labels["workload"]] {
			continue
		}
		n++
		t.Logf("parked: %s: %s", d.Letter.Reason, d.Letter.Error)
		if err := r.line(d.Letter.Entry); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// counted is what Loki's metric queries say, which may count an event twice.
func (p *pipeline) counted(t *testing.T, part string) float64 {
	t.Helper()
	query := fmt.Sprintf(`sum(sum_over_time(%s | json n="count" | unwrap n [1h]))`, selector(part))
	samples, err := p.loki.Instant(t.Context(), query, time.Now().Add(time.Second))
	if err != nil || len(samples) != 1 {
		t.Fatalf("%v, %v", samples, err)
	}
	return samples[0].Value
}
