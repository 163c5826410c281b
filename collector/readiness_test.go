package collector

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/schemas"
)

// awaitReadiness waits until /readyz answers so and has the text.
func (b *bench) awaitReadiness(code int, want string) {
	b.t.Helper()
	testutil.Eventually(b.t, "readiness", func() error {
		if got, text := b.ready(); got != code || !strings.Contains(text, want) {
			return fmt.Errorf("it is %d %s, want %d with %q", got, text, code, want)
		}
		return nil
	})
}

func TestACollectorWithoutItsEventLogIsNotReady(t *testing.T) {
	b, f := newBench(t), newFakeLoki(t)
	b.collect(Target{URL: f.URL})
	b.awaitReadiness(http.StatusOK, CheckEventLog+": ok")
	if err := b.server.Close(); err != nil {
		t.Fatal(err)
	}
	b.awaitReadiness(http.StatusServiceUnavailable, CheckEventLog+": not connected")
}

func TestACollectorWithoutItsStreamsIsNotReadyAndGoesOnWithThem(t *testing.T) {
	server, err := eventlog.StartServer(eventlog.ServerOptions{Dir: filepath.Join(t.TempDir(), "nats")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	o := server.Options()
	o.Streams = []string{schemas.StreamDead}
	own, err := eventlog.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	b, f := &bench{t: t, server: server}, newFakeLoki(t)
	b.run(own, b.config(Target{URL: f.URL}))
	b.awaitReadiness(http.StatusServiceUnavailable, schemas.StreamFlows+" cannot be read: there is no such stream")
	b.events = b.connect() // as an enforcer
	b.publish(0, 3, 1)
	f.wantIDs(flowLabels, idsBut(3))
	b.awaitReadiness(http.StatusOK, "target loki: ok")
}
