package enforcer

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/internal/telemetry"
	"github.com/egresswarden/egresswarden/internal/testutil/cgroup"
)

// scrape gives the answer's lines.
func scrape(t *testing.T, s *telemetry.Set, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, "\n" + w.Body.String()
}

func lacks(text string, lines ...string) error {
	for _, line := range lines {
		if !strings.Contains(text, "\n"+line+"\n") {
			return fmt.Errorf("no line %q in %s", line, text)
		}
	}
	return nil
}

func TestMetricsAreWhatTheKernelCounts(t *testing.T) {
	root := cgroup.New(t)
	h := startHost(t, root, func(*Config) {})
	set := telemetry.New()
	h.Instrument(set)
	if code, text := scrape(t, set, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(text, "event_log: the event log was not reached yet") {
		t.Errorf("without NATS it answers %d %s", code, text)
	}
	server := h.startServer(t)
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	blocked, _ := h.container(t, "blocked", "block")
	learning, _ := h.container(t, "learning", "learn")
	h.container(t, "odd", "lern")
	for _, group := range []*cgroup.Group{blocked, learning, learning} {
		if err := runFlood(t, group, 0, 50, 2).Wait(); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		`egw_enforcer_decisions_total{verdict="allow"} 0`, `egw_enforcer_decisions_total{verdict="deny"} 102`,
		`egw_enforcer_decisions_total{verdict="would_deny"} 204`, `egw_enforcer_overflow_decisions_total{verdict="deny"} 0`,
		`egw_enforcer_containers{mode="block"} 2`, `egw_enforcer_containers{mode="learn"} 1`, `egw_enforcer_containers_mislabelled 1`,
		`egw_enforcer_workloads{mode="allow"} 0`, `egw_enforcer_workloads{mode="block"} 2`,
		"egw_enforcer_enforcing 1", "egw_enforcer_docker_connected 0", "egw_enforcer_eventlog_connected 1", `egw_enforcer_problems{problem="docker"} 1`,
		`egw_enforcer_problems{problem="allow_list"} 0`, `egw_enforcer_policy_revision{state="applied"} 0`, "egw_enforcer_ring_pending_bytes 0",
	}
	eventually(t, "the metrics tell of all", func() bool {
		_, text := scrape(t, set, "/metrics")
		err := lacks(text, want...)
		if err == nil && strings.Contains(text, "\negw_enforcer_flow_stream_bytes 0\n") {
			err = errors.New("the stream is empty")
		}
		return err == nil
	})
	code, text := scrape(t, set, "/readyz")
	if err := lacks(text, "gate: ok", "event_log: ok", "policy: ok", "problems: ok"); err != nil || code != http.StatusServiceUnavailable {
		t.Errorf("without docker it answers %d: %v", code, err)
	}
}

func TestAScrapeAfterTheEndIsHarmless(t *testing.T) {
	root := cgroup.New(t)
	set := telemetry.New()
	t.Run("the enforcer's life", func(t *testing.T) { startHost(t, root, func(*Config) {}).Instrument(set) })
	if code, text := scrape(t, set, "/metrics"); code != http.StatusOK || strings.Contains(text, "egw_enforcer_") {
		t.Errorf("metrics answer %d %s", code, text)
	}
	if code, text := scrape(t, set, "/readyz"); code != http.StatusServiceUnavailable || lacks(text, "gate: "+errEnding.Error()) != nil {
		t.Errorf("readiness answers %d %s", code, text)
	}
}

func TestProblemsAreCountedByKind(t *testing.T) {
	var p problems
	for _, key := range []string{"docker", "event log", "allow-list /a b.rules", "allow-list /c.rules", "something new"} {
		p.set(key, errors.New("x"))
	}
	want := map[string]int{"connections": 0, "counters": 0, "dns": 0, "docker": 1, "event_log": 1, "allow_list": 2, "other": 1, "gate": 0, "policy_log": 0, "snapshot": 0}
	if diff := cmp.Diff(want, p.kinds()); diff != "" {
		t.Error(diff)
	}
}

// broken are counters of which some cannot be read.
type broken struct{ totals, births error }

// Totals fails, or is made up.
func (b broken) Totals() (decided, overflow bpf.Counters, err error) {
	return bpf.Counters{Deny: 3}, bpf.Counters{}, b.totals
}

// Births fails, or is made up.
func (b broken) Births() (known, unknown uint64, err error) { return 5, 0, b.births }

func TestCountersThatCannotBeReadAreAProblemAndNotZero(t *testing.T) {
	e := newBare(t, "web-1", newFakeKernel())
	told := func(b broken) map[string]float64 {
		all := map[string]float64{}
		e.readCounters(b, func(name string, value float64, labels ...string) { all[name+strings.Join(labels, "")] = value })
		return all
	}
	bad := errors.New("no such map")
	if got := told(broken{totals: bad}); len(got) != 2 || got["births_totaltrue"] != 5 {
		t.Errorf("without totals it tells %v", got)
	}
	if err := e.problems.get("counters"); err == nil || e.problemsReady() == nil || e.problems.kinds()["counters"] != 1 {
		t.Errorf("the problem is %v", err)
	}
	if got := told(broken{births: bad}); len(got) != 6 || got["decisions_totaldeny"] != 3 {
		t.Errorf("without births it tells %v", got)
	}
	if got := told(broken{}); len(got) != 8 || e.problems.get("counters") != nil {
		t.Errorf("it tells %v, the problem is %v", got, e.problems.get("counters"))
	}
}
