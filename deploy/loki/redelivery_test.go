package loki

import (
	"fmt"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/loki"
	"github.com/egresswarden/egresswarden/internal/testutil/scene"
)

// What docs/OPERATIONS.md says of redelivered entries. The numbers are logged.
func TestARedeliveryIsCountedTwiceUntilTheFlushAndShownOnce(t *testing.T) {
	l := loki.Start(t, loki.Options{})
	// Some 1.5 MiB: several blocks of one chunk, at whose borders Loki still
	// counts an entry twice after the flush.
	const n, blocks = 4000, 8
	now := time.Now()
	for _, again := range []int{100, 1000, n} {
		t.Run(fmt.Sprint(again), func(t *testing.T) {
			s := scene.New(t)
			workload := fmt.Sprint("redelivered ", again)
			for i := range n {
				s.Flow(time.Minute-time.Duration(i)*time.Millisecond, workload, deny, 1, nil)
			}
			entries := s.Entries
			s.Push(l)
			s.Entries = entries[n-again:]
			s.Push(l)

			selector := fmt.Sprintf(`{workload=%q}`, workload)
			distinct := map[string]bool{}
			got, err := l.Lines(t.Context(), selector, now.Add(-time.Hour), now.Add(time.Hour))
			for _, e := range got {
				distinct[e.Metadata["event_id"]] = true
			}
			if err != nil || len(got) != n || len(distinct) != n {
				t.Errorf("a log query shows %d entries, %d of them different, want %d: %v", len(got), len(distinct), n, err)
			}
			before := counted(t, l, selector)
			if before < n || before > float64(n+again) || again == n && before == n {
				t.Errorf("a metric query counts %v, want %d to %d, and more for all of them", before, n, n+again)
			}
			if err := l.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			var after float64
			testutil.Eventually(t, "the flush puts it right", func() error {
				if after = counted(t, l, selector); after < n || after > n+blocks {
					return fmt.Errorf("counted %v", after)
				}
				return nil
			})
			t.Logf("%d entries, the last %d again: counted %v until the flush, then %v", n, again, before, after)
		})
	}
}

func counted(t *testing.T, l *loki.Server, selector string) float64 {
	t.Helper()
	got, err := l.Instant(t.Context(), fmt.Sprintf(`sum(count_over_time(%s[1h]))`, selector), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, s := range got {
		total += s.Value
	}
	return total
}
