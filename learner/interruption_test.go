package learner

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/daemon"
	"github.com/egresswarden/egresswarden/internal/telemetry"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/schemas"
)

// said is what was logged.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) count(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.text.String(), text)
}

// awaitReadiness waits until /readyz has the text.
func awaitReadiness(t *testing.T, set *telemetry.Set, want string) {
	t.Helper()
	testutil.Eventually(t, "readiness", func() error {
		w := httptest.NewRecorder()
		set.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		if !strings.Contains(w.Body.String(), want) {
			return fmt.Errorf("it is %q, want %q", w.Body, want)
		}
		return nil
	})
}

func TestTheDaemonWaitsForTheStreamsAndTellsEachInterruption(t *testing.T) {
	dir := t.TempDir()
	server, err := eventlog.StartServer(eventlog.ServerOptions{Dir: filepath.Join(dir, "nats"), Socket: filepath.Join(dir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	d := Daemon{NATS: daemon.NATS{Socket: filepath.Join(dir, "s")}, Snapshot: filepath.Join(dir, "evidence")}
	var log said
	set := telemetry.New()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.learn(ctx, set, slog.New(slog.NewTextHandler(&log, nil))) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	const missing = schemas.StreamPolicy + ": not found"
	awaitReadiness(t, set, missing)
	enforcer, err := eventlog.Connect(t.Context(), server.Options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(enforcer.Close)
	awaitReadiness(t, set, "learner: ok")
	removeStream(t, server, schemas.StreamPolicy)
	awaitReadiness(t, set, missing)
	if n := log.count(missing); n != 2 {
		t.Errorf("told %d times, want once for each of two interruptions", n)
	}
}

// removeStream is nats stream rm.
func removeStream(t *testing.T, server *eventlog.Server, name string) {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(server))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Request("$JS.API.STREAM.DELETE."+name, nil, testutil.Long); err != nil {
		t.Fatal(err)
	}
}
