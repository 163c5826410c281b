package collector

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/loki"
	"github.com/egresswarden/egresswarden/schemas"
)

// delivered is how many events a bench's collector has delivered.
func (b *bench) delivered() float64 {
	b.t.Helper()
	families, err := b.set.Gather().Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == "egw_collector_delivered_total" {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// wrong makes some flows such that Loki never takes them, and says why.
func wrong(n int, f *schemas.Flow) string {
	switch n % 2000 {
	case 3:
		f.TimeNs -= int64(8 * 24 * time.Hour)
		return "too_old"
	case 7:
		f.TimeNs += int64(2 * time.Hour)
		return "too_new"
	case 11, 12:
		f.Comm = strings.Repeat("x", 300<<10)
		return "too_long"
	}
	return ""
}

// spread puts flows into four streams, over an hour and a half of which the
// first comes first: a stream's order matters to Loki.
func spread(last int) func(int, *schemas.Flow) {
	return func(n int, f *schemas.Flow) {
		f.TimeNs = time.Now().Add(-100*time.Minute).UnixNano() + int64(n)*int64(90*time.Minute)/int64(last)
		f.Workload = []string{"shop/web", "shop/db"}[n%2]
		f.Verdict = []schemas.Verdict{schemas.Verdict_VERDICT_ALLOW, schemas.Verdict_VERDICT_DENY}[n/2%2]
		wrong(n, f)
	}
}

func TestARealLokiHasAllThatItTakesAndTheRestIsParked(t *testing.T) {
	s := loki.Start(t, loki.Options{})
	b := newBench(t)
	target := Target{URL: s.URL}
	const last = 20_000
	b.publish(0, last, 250, spread(last))
	b.collect(target)
	// Killed while it takes events, twice.
	for _, n := range []float64{last / 10, last / 2} {
		testutil.Eventually(t, "events in Loki", func() error {
			if got := b.delivered(); got < n {
				return fmt.Errorf("%v of %v", got, n)
			}
			return nil
		})
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := s.Launch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.drained(target)

	parked := map[string]string{}
	for _, d := range b.letters() {
		parked[d.EventID] = d.Reason
	}
	want := map[string]labelled{}
	for n := range last {
		id, f := schemas.FlowID(testHost, "boot", uint64(n)), schemas.Flow{}
		if reason := wrong(n, &f); parked[id] != reason {
			t.Errorf("flow %d was parked as %q, want %q", n, parked[id], reason)
		} else if reason == "" {
			spread(last)(n, &f)
			want[id] = labelled{f.Workload, f.Verdict.Word()}
		}
	}
	wantInLoki(t, s, want)
}

// labelled is under what a flow is to be found.
type labelled struct{ workload, verdict string }

// wantInLoki fails unless Loki shows exactly these flows, each once and under its
// labels.
func wantInLoki(t *testing.T, s *loki.Server, want map[string]labelled) {
	t.Helper()
	now := time.Now()
	entries, err := s.Lines(t.Context(), `{service_name="egresswarden"}`, now.Add(-10*24*time.Hour), now.Add(3*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range entries {
		var line struct {
			ID, Verdict, Workload, Reason string
			Time                          time.Time
		}
		if err := json.Unmarshal([]byte(e.Line), &line); err != nil {
			t.Fatal(err)
		}
		if line.Reason == schemas.ReasonControl {
			continue
		}
		f, is := want[line.ID]
		if !is || seen[line.ID] || line.Verdict != f.verdict || line.Workload != f.workload || !e.Time.Equal(line.Time) ||
			e.Labels["workload"] != f.workload || e.Labels["verdict"] != f.verdict || e.Labels["host"] != testHost {
			t.Fatalf("unexpected, or there twice: %+v", e)
		}
		if metadata := fmt.Sprint(e.Metadata, e.Labels); !strings.Contains(metadata, line.ID) || !strings.Contains(metadata, "c0ffee") {
			t.Fatalf("without its metadata: %+v", e)
		}
		seen[line.ID] = true
	}
	if len(seen) != len(want) {
		var missing []string
		for id := range want {
			if !seen[id] {
				missing = append(missing, id)
			}
		}
		slices.Sort(missing)
		t.Errorf("Loki has %d of %d flows, not %v", len(seen), len(want), missing[:min(5, len(missing))])
	}
}
