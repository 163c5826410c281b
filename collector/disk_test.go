package collector

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/internal/testutil"
)

func (f *fakeLoki) fails(growth int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures, f.growth = f.failures+12, growth
}

// diskTold waits for what readiness says of the disk.
func (b *bench) diskTold(full bool) {
	b.t.Helper()
	testutil.Eventually(b.t, fmt.Sprintf("full is %v", full), func() error {
		if code, text := b.ready(); strings.Contains(text, "make room there now") != full || (code == http.StatusOK) == full {
			return fmt.Errorf("readiness answers %d %s", code, text)
		}
		return nil
	})
}

func TestLokisFullDiskIsToldWithItsCure(t *testing.T) {
	b, f := newBench(t), newFakeLoki(t)
	f.fails(0) // in former days
	cfg := b.config(Target{URL: f.URL})
	cfg.disksEvery = 5 * time.Millisecond
	b.run(b.events, cfg)
	b.diskTold(false)
	f.fails(1)
	b.diskTold(true)
	if b.said.count("make room there now") == 0 {
		t.Error("nothing was logged")
	}
	f.fails(0)
	b.diskTold(false)
}

func TestTheAlarmOfAFullDiskIsEachLokisOwn(t *testing.T) {
	type look struct {
		started, failures int
		full              bool
	}
	gone := []look{{1, 12, false}, {1, 13, true}}
	for range absentLooks - 1 {
		gone = append(gone, look{2, 0, true})
	}
	for name, looks := range map[string][]look{
		"one":                               {{1, 12, false}, {1, 12, false}, {1, 13, true}},
		"nothing to write for one look":     {{1, 12, false}, {1, 13, true}, {1, 13, true}, {1, 14, true}},
		"room again":                        {{1, 12, false}, {1, 13, true}, {1, 13, true}, {1, 13, false}},
		"two behind one address":            {{1, 12, false}, {2, 40, false}, {1, 12, false}, {2, 40, false}, {1, 12, false}},
		"one of two":                        {{1, 12, false}, {2, 40, false}, {1, 13, true}, {2, 40, true}, {2, 40, true}, {1, 13, true}, {1, 13, false}},
		"started anew, and not asked again": append(gone, look{2, 0, false}),
	} {
		t.Run(name, func(t *testing.T) {
			var now look
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, "%s %d\n%s %d\n", diskMetric, now.failures, startMetric, now.started)
			}))
			defer s.Close()
			d := &diskWatch{poster: newTestPoster(t, Target{URL: s.URL}), log: slog.New(slog.DiscardHandler)}
			for n, l := range looks {
				now = l
				if d.look(t.Context()); (d.check() != nil) != l.full {
					t.Errorf("after look %d: %v, want full: %v", n+1, d.check(), l.full)
				}
			}
		})
	}
}

func TestALokiWhoseMetricsAreHiddenIsNotWatched(t *testing.T) {
	b := newBench(t)
	looked := make(chan bool, 2)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			select {
			case looked <- true:
			default:
			}
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(s.Close)
	cfg := b.config(Target{URL: s.URL})
	cfg.disksEvery = 5 * time.Millisecond
	b.run(b.events, cfg)
	<-looked
	<-looked
	b.diskTold(false)
}
