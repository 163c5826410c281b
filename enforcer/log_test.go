package enforcer

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// station is an enforcer without a gate, with an event log of its own.
type station struct {
	*Enforcer
	kernel *fakeKernel
	events *eventlog.Log
	dir    string // of the event log
}

func testServer(t *testing.T, dir string) (*eventlog.Server, *eventlog.Log) {
	t.Helper()
	s, err := eventlog.StartServer(eventlog.ServerOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	l, err := eventlog.Connect(t.Context(), s.Options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return s, l
}

func newStation(t *testing.T) *station {
	t.Helper()
	st := &station{kernel: newFakeKernel(), dir: filepath.Join(t.TempDir(), "nats")}
	_, st.events = testServer(t, st.dir)
	st.Enforcer = newBare(t, "web-1", st.kernel)
	return st
}

// newBare is an enforcer with a fake gate.
func newBare(t *testing.T, host string, k *fakeKernel) *Enforcer {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	cfg := DefaultConfig()
	cfg.Host, cfg.Data, cfg.Policies = host, t.TempDir(), t.TempDir()
	e := &Enforcer{cfg: cfg, log: log, folded: make(chan struct{}, 1), report: newReporter(host, log)}
	e.registry = newRegistry(k, registryOptions{DefaultMode: policy.ModeAllow, MaxContainers: 64, Log: log, Report: e.report.add})
	if err := e.registry.setUnknown(policy.ModeBlock); err != nil {
		t.Fatal(err)
	}
	return e
}

// background runs something until the test ends, or stop is called.
func background(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// told counts the host events of a kind that wait, and takes them all.
func (e *Enforcer) told(kind string) (n int) {
	for {
		select {
		case m := <-e.report.queue:
			if m.GetKind() == kind {
				n++
			}
		default:
			return n
		}
	}
}

// appendTo appends an event of an operator and gives its revision.
func (st *station) appendTo(t *testing.T, name string, lines ...string) uint64 {
	t.Helper()
	return appendRules(t, st.events, name, lines...)
}

func appendRules(t *testing.T, l *eventlog.Log, name string, lines ...string) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Long)
	defer cancel()
	state := foldAll(t, l)
	ev := &schemas.PolicyEvent{
		TimeNs: time.Now().UnixNano(), Actor: "ann", Policy: name,
		Change: &schemas.PolicyEvent_RuleAdded{RuleAdded: &schemas.RuleAdded{Rules: policy.WireRules(rules(t, lines...))}},
	}
	rev, err := l.AppendPolicy(ctx, ev, state.LastSequence(name))
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func foldAll(t *testing.T, l *eventlog.Log) *policy.State {
	t.Helper()
	state := policy.NewState()
	for entry, err := range l.PolicyEvents(t.Context(), 0, false) {
		if err != nil {
			t.Fatal(err)
		}
		state.Apply(entry.Revision, entry.Event)
	}
	return state
}
