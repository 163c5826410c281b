package learner

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/telemetry"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

func connect(t *testing.T, change ...func(*eventlog.ServerOptions)) *eventlog.Log {
	t.Helper()
	o := eventlog.ServerOptions{Dir: filepath.Join(t.TempDir(), "nats")}
	for _, f := range change {
		f(&o)
	}
	s, err := eventlog.StartServer(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := eventlog.Connect(t.Context(), s.Options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		if err := s.Close(); err != nil {
			t.Errorf("close server: %v", err)
		}
	})
	return l
}

// start runs a learner until stop, which gives Run's error.
func start(t *testing.T, l *eventlog.Log, snapshot string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, l, Config{Snapshot: snapshot, PlanEvery: 5 * time.Millisecond, SaveEvery: 5 * time.Millisecond,
			Now: func() time.Time { return noon }})
	}()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

// fold reads the whole policy log.
func fold(t *testing.T, l *eventlog.Log) *policy.State {
	t.Helper()
	s := policy.NewState()
	for e, err := range l.PolicyEvents(t.Context(), 0, false) {
		if err != nil {
			t.Fatal(err)
		}
		if o := s.Apply(e.Revision, e.Event); o.Refused != "" {
			t.Errorf("revision %d refused: %s", e.Revision, o.Refused)
		}
	}
	return s
}

func write(t *testing.T, l *eventlog.Log, boot string, flows ...*schemas.Flow) {
	t.Helper()
	w := l.FlowWriter("h1", boot)
	defer w.Close()
	for i, f := range flows {
		f.Id = schemas.FlowID("h1", boot, uint64(8*i))
	}
	if err := w.Write(t.Context(), flows, uint64(8*len(flows))); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRunProposesAndGoesOnAfterARestart(t *testing.T) {
	l := connect(t)
	snapshot := filepath.Join(t.TempDir(), "evidence")
	write(t, l, "a", flow("192.0.2.1", 443, times(3)), flow("198.51.100.7", 80))
	full := &schemas.HostEvent{TimeNs: noon.UnixNano(), Host: "h1", Kind: schemas.KindOutboxFull, Count: 3}
	if err := l.PublishHost(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	stop := start(t, l, snapshot)
	var open []policy.Proposal
	testutil.Eventually(t, "two proposals", func() error {
		if open = fold(t, l).Proposals("web", policy.StatusOpen); len(open) != 2 {
			return fmt.Errorf("open are %v", open)
		}
		return nil
	})
	stop()
	write(t, l, "b", flow("192.0.2.1", 80, by("wget")))
	p := open[slices.IndexFunc(open, func(p policy.Proposal) bool { return p.Body.Rules[0].Rule.Text == "198.51.100.7/32 tcp/80" })]
	if _, err := l.AppendPolicy(t.Context(), &schemas.PolicyEvent{Actor: "ann", Policy: "web", BasedOn: fold(t, l).Revision(),
		Change: &schemas.PolicyEvent_ProposalApproved{ProposalApproved: &schemas.ProposalApproved{Id: p.ID, Evidence: p.Body.Evidence,
			Rules: []*schemas.Rule{p.Body.Rules[0].Rule}}}}, fold(t, l).LastSequence("web")); err != nil {
		t.Fatal(err)
	}
	stop = start(t, l, snapshot)
	defer stop()
	testutil.Eventually(t, "the grown proposal", func() error {
		open = fold(t, l).Proposals("web", policy.StatusOpen)
		if len(open) != 1 || open[0].Body.Rules[0].Rule.Text != "192.0.2.1/32 tcp/80,tcp/443" {
			return fmt.Errorf("open are %v", open)
		}
		return nil
	})
	if e := open[0].Body.Rules[0]; e.Count != 4 {
		t.Errorf("%d decisions, want 4: counted once over a restart", e.Count)
	}
	var ready []Readiness
	data, err := l.Ask(t.Context(), AskHost, AskReadiness, nil)
	if err == nil {
		err = json.Unmarshal(data, &ready)
	}
	if err != nil || len(ready) != 1 || ready[0].Workload != "web" || ready[0].Open != 2 || ready[0].Ready {
		t.Errorf("readiness %s: %v", data, err)
	}
	if !strings.Contains(string(data), `"3 recorded decisions of host h1 were thrown away`) {
		t.Errorf("readiness does not tell the loss: %s", data)
	}
}

func TestRunRefusesASnapshotItCannotRead(t *testing.T) {
	l := connect(t)
	snapshot := filepath.Join(t.TempDir(), "evidence")
	if err := writeFile(snapshot, []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), l, Config{Snapshot: snapshot}); err == nil {
		t.Error("evidence was thrown away silently")
	}
}

func TestRunGoesOnWithALogThatIsMadeAnew(t *testing.T) {
	dir, err := os.MkdirTemp("", "egw") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	serve := func(data string) *eventlog.Server {
		s, err := eventlog.StartServer(eventlog.ServerOptions{Dir: filepath.Join(dir, data), Socket: filepath.Join(dir, "s")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	dial := func() *eventlog.Log {
		l, err := eventlog.Connect(t.Context(), eventlog.Options{URL: "unix://" + filepath.Join(dir, "s")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		return l
	}
	proposed := func(l *eventlog.Log, name string) func() error {
		return func() error {
			if open := fold(t, l).Proposals(name, policy.StatusOpen); len(open) != 1 {
				return fmt.Errorf("open are %v", open)
			}
			return nil
		}
	}
	old := serve("a")
	l := dial()
	write(t, l, "a", flow("192.0.2.1", 443))
	defer start(t, dial(), filepath.Join(dir, "evidence"))()
	testutil.Eventually(t, "a proposal", proposed(l, "web"))
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	serve("b")
	l = dial()
	write(t, l, "b", flow("198.51.100.1", 443, func(f *schemas.Flow) { f.Workload, f.Policy = "new", "new" }))
	testutil.Eventually(t, "a proposal in the new log", proposed(l, "new"))
	testutil.Eventually(t, "what was learnt before is proposed again", proposed(l, "web"))
}

func TestMetricsTellOfTheLearning(t *testing.T) {
	l, set := connect(t), telemetry.New()
	write(t, l, "a", flow("192.0.2.1", 443), flow("198.51.100.7", 80))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, l, Config{PlanEvery: 5 * time.Millisecond, Metrics: set, Now: func() time.Time { return noon }})
	}()
	ask := func(path string) string {
		w := httptest.NewRecorder()
		set.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Body.String()
	}
	testutil.Eventually(t, "the metrics of two proposals", func() error {
		text := ask("/metrics")
		for _, want := range []string{"open_proposals 2", "destinations 2", "workloads 1", "policies 1", "policy_revision 2",
			"flow_sequence 1", "interruptions_total 0", "plan_seconds"} {
			if !strings.Contains(text, "egw_learner_"+want) {
				return fmt.Errorf("no %s in %s", want, text)
			}
		}
		return nil
	})
	if text := ask("/readyz"); text != "learner: ok\nlearner_event_log: ok\n" {
		t.Errorf("readiness %q", text)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if text := ask("/readyz"); !strings.Contains(text, "learner: the event log is being read") {
		t.Errorf("readiness after the end %q", text)
	}
}
