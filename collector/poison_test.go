package collector

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grafana/loki/pkg/push"

	"github.com/egresswarden/egresswarden/schemas"
)

type countingSink struct{ n, rounds, most int }

func (s *countingSink) Deliver(_ context.Context, round []Group) error {
	size := 0
	for _, g := range round {
		s.n += len(g.Entries)
		for i := range g.Entries {
			size += g.Entries[i].size()
		}
	}
	s.rounds, s.most = s.rounds+1, max(s.most, size)
	return nil
}

// wantParked fails unless exactly the numbered flows are parked for the reason,
// and all others of them are in Loki, in order.
func wantParked(b *bench, f *fakeLoki, last int, reason string, numbers ...int) {
	b.t.Helper()
	f.wantIDs(flowLabels, idsBut(last, numbers...))
	b.drained(Target{URL: f.URL})
	var want, got []string
	for _, n := range numbers {
		want = append(want, schemas.FlowID(testHost, "boot", uint64(n)))
	}
	for _, d := range b.letters() {
		got = append(got, d.EventID)
		if d.Reason != reason || !strings.Contains(d.Entry, d.EventID) || d.Error == "" || d.Stream != schemas.StreamFlows ||
			d.Labels["workload"] != "shop/web" || d.Sequence == 0 || d.EventTime.IsZero() {
			b.t.Errorf("letter %+v, want reason %s", d, reason)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		b.t.Errorf("parked %v, want %v", got, want)
	}
}

// lokiRefuses refuses entries as Loki does: the others are stored all the same.
func lokiRefuses(f *fakeLoki, bad func(push.Entry) bool, text func(push.Entry) string) func(request) (int, string) {
	return func(q request) (int, string) {
		i := slices.IndexFunc(q.entries, bad)
		if i < 0 {
			return http.StatusNoContent, ""
		}
		for _, e := range q.entries {
			if !bad(e) {
				f.taken[q.labels] = append(f.taken[q.labels], e)
			}
		}
		return http.StatusBadRequest, text(q.entries[i])
	}
}

func long(numbers ...int) func(int, *schemas.Flow) {
	return func(n int, f *schemas.Flow) {
		if slices.Contains(numbers, n) {
			f.Comm = strings.Repeat("x", 1000)
		}
	}
}

func isLong(e push.Entry) bool { return len(e.Line) > 1000 }

func TestAnEntryThatLokiRefusesIsParkedAndItsNeighboursPass(t *testing.T) {
	b, f := newBench(t), newFakeLoki(t)
	f.set(lokiRefuses(f, isLong, func(push.Entry) string {
		return "max entry size '1000' bytes exceeded for stream '{a=\"b\"}' while adding an entry with length '1400' bytes"
	}))
	b.publish(0, 200, 20, long(0, 7, 8, 199))
	b.collect(Target{URL: f.URL})
	wantParked(b, f, 200, "too_long", 0, 7, 8, 199)
}

func TestEntriesThatAreTooOldAreParkedTogether(t *testing.T) {
	for name, form := range map[string]string{
		"too_old":        "entry for stream '{}' has timestamp too old: %s, oldest acceptable timestamp is: %s",
		"too_far_behind": "entry with timestamp x ignored, reason: 'entry too far behind, entry timestamp is: %s, oldest acceptable timestamp is: %s',\n",
	} {
		t.Run(name, func(t *testing.T) {
			b, f := newBench(t), newFakeLoki(t)
			oldest := time.Now().Add(-24 * time.Hour)
			old := func(e push.Entry) bool { return e.Timestamp.Before(oldest) }
			f.set(lokiRefuses(f, old, func(e push.Entry) string {
				return fmt.Sprintf(form, e.Timestamp.Format(time.RFC3339), oldest.Format(time.RFC3339))
			}))
			b.publish(0, 500, 500, func(n int, f *schemas.Flow) {
				if n < 490 {
					f.TimeNs -= int64(48 * time.Hour)
				}
			})
			b.collect(Target{URL: f.URL})
			var numbers []int
			for n := range 490 {
				numbers = append(numbers, n)
			}
			wantParked(b, f, 500, name, numbers...)
			if n := f.answers(http.StatusBadRequest); n > 10 {
				t.Errorf("%d requests were refused, want one or two for all", n)
			}
		})
	}
}

func TestAnEntryThatProvokesServerErrorsIsParked(t *testing.T) {
	b, f := newBench(t), newFakeLoki(t)
	f.set(func(q request) (int, string) {
		if slices.ContainsFunc(q.entries, isLong) {
			return http.StatusInternalServerError, "label name is empty"
		}
		return http.StatusNoContent, ""
	})
	b.publish(0, 64, 16, long(3, 40))
	b.collect(Target{URL: f.URL})
	wantParked(b, f, 64, "server_error", 3, 40)
}

func TestWhatAProxyFindsTooLargeIsSplitAndThenParked(t *testing.T) {
	b, f := newBench(t), newFakeLoki(t)
	f.set(func(q request) (int, string) {
		size := 0
		for _, e := range q.entries {
			size += len(e.Line)
		}
		if size > 4000 {
			return http.StatusRequestEntityTooLarge, "<html>nginx</html>"
		}
		return http.StatusNoContent, ""
	})
	b.publish(0, 200, 50, func(n int, f *schemas.Flow) {
		if n == 77 {
			f.Comm = strings.Repeat("x", 5000)
		}
	})
	b.collect(Target{URL: f.URL})
	wantParked(b, f, 200, "too_large", 77)
}

func TestControlEntriesStandForNoDecision(t *testing.T) {
	for _, l := range []Labels{
		{Service: ServiceFlows, Host: "h", Workload: "w", Verdict: "allow"}, {Service: ServiceFlows, Host: "h", Workload: "w", Verdict: "would_deny"},
		{Service: ServiceFlows, Host: "h", Workload: "w", Verdict: "deny"}, {Service: ServiceHosts, Host: "h"}, {Service: ServicePolicy, Workload: "p"},
	} {
		s := stream{Loki: &Loki{name: "collector@test"}, labels: l}
		e := Entry{TimeNs: 42, EventID: "id"}
		c := s.controlEntry(e)
		if c != s.controlEntry(e) || c.TimeNs != 42 || c.EventID != "id/control" || !strings.Contains(c.Line, "control") {
			t.Errorf("control entry of %v: %+v", l, c)
		}
		if l.Service == ServiceFlows && (!strings.Contains(c.Line, `"count":0`) || !strings.Contains(c.Line, `"verdict":"`+l.Verdict+`"`) || !strings.Contains(c.Line, `"proto":"other"`)) {
			t.Errorf("it counts: %s", c.Line)
		}
	}
}

func TestARequestIsBoundedInBytesEntriesAndTime(t *testing.T) {
	small := Entry{Line: "x"}
	for name, c := range map[string]struct {
		entry func(n int) Entry
		most  int
	}{
		"entries": {func(int) Entry { return small }, batchEntries},
		"bytes":   {func(int) Entry { return Entry{Line: strings.Repeat("x", 1000)} }, batchBytes / (1000 + entryBytes)},
		"time":    {func(n int) Entry { return Entry{TimeNs: int64(n) * int64(time.Minute)} }, 31},
		"one":     {func(int) Entry { return Entry{Line: strings.Repeat("x", 2*batchBytes)} }, 1},
	} {
		var entries []Entry
		for n := range c.most + 10 {
			entries = append(entries, c.entry(n))
		}
		if got := firstBatch(entries); got != c.most {
			t.Errorf("%s: a request has %d entries, want %d", name, got, c.most)
		}
	}
}
