package collector

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/build"
	"github.com/egresswarden/egresswarden/internal/testutil/loki"
	"github.com/egresswarden/egresswarden/internal/testutil/process"
	"github.com/egresswarden/egresswarden/schemas"
)

// envBacklog is how many events wait in TestABacklog; the default is quick.
const envBacklog = "EGW_BACKLOG"

// mostMemory bounds the collector's resident memory, however long the backlog.
const mostMemory = 300 << 20

// outdated is every how manieth event of the backlog Loki finds too old.
const outdated = 1000

// TestABacklogIsDrainedInOrderWithBoundedMemory has events of six hours wait
// while Loki is away: out of order Loki would refuse them as too far behind.
func TestABacklogIsDrainedInOrderWithBoundedMemory(t *testing.T) {
	events := 30_000
	if text := os.Getenv(envBacklog); text != "" {
		var err error
		if events, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	s := loki.Start(t, loki.Options{})
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "egw") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	b := benchAt(t, dir)
	p := b.process(s)
	b.wait(events)
	start := time.Now()
	if err := s.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	deadline := testutil.Long + time.Duration(events)*time.Millisecond
	err = testutil.Poll(t.Context(), deadline, func() error {
		if n := b.pending(Target{URL: s.URL}); n > 0 {
			return fmt.Errorf("%d messages pending", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	took, peak := time.Since(start), peakMemory(t, p.PID())
	t.Logf("%d events drained in %v, %.0f a second; the collector had at most %d MiB", events, took, float64(events)/took.Seconds(), peak>>20)
	if peak > mostMemory {
		t.Errorf("the collector took %d MiB, want at most %d", peak>>20, mostMemory>>20)
	}
	b.wantBacklog(s, events)
}

// benchAt is a bench whose server other processes reach.
func benchAt(t testing.TB, dir string) *bench {
	server, err := eventlog.StartServer(eventlog.ServerOptions{Dir: filepath.Join(dir, "nats"), Socket: filepath.Join(dir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	b := &bench{t: t, server: server, dir: dir}
	b.events = b.connect()
	return b
}

// process runs the collector's own program.
func (b *bench) process(s *loki.Server) *process.Process {
	b.t.Helper()
	config := filepath.Join(b.dir, "c.yaml")
	text := fmt.Sprintf("name: collector@test\nlisten_metrics: ''\nnats: {socket: %s}\ntargets: [{url: '%s'}]\n", filepath.Join(b.dir, "s"), s.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	log := filepath.Join(b.dir, "log")
	p, err := process.Launch(log, exec.Command(build.Binary(b.t, "cmd/egw-collector"), "-config", config))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := p.End(unix.SIGKILL); err != nil {
			b.t.Error(err)
		}
		if text, _ := os.ReadFile(log); b.t.Failed() {
			b.t.Logf("the collector said:\n%.4000s", text)
		}
	})
	return p
}

// wait writes the events of the backlog.
func (b *bench) wait(events int) {
	b.t.Helper()
	w := b.events.FlowWriter(testHost, "boot")
	defer w.Close()
	at := time.Now().Add(-6 * time.Hour)
	for n := 0; n < events; n += 1000 {
		var flows []*schemas.Flow
		for i := n; i < min(n+1000, events); i++ {
			f := flow(i, at.Add(time.Duration(i)*(6*time.Hour/time.Duration(events))))
			f.Workload = fmt.Sprint("shop/", i%4)
			if i%outdated == 3 {
				f.TimeNs -= int64(8 * 24 * time.Hour)
			}
			flows = append(flows, f)
		}
		if err := w.Write(b.t.Context(), flows, uint64(min(n+1000, events))); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := w.Flush(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

func peakMemory(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// wantBacklog fails unless each event is in Loki once, and those that are too
// old, and no others, are parked.
func (b *bench) wantBacklog(s *loki.Server, events int) {
	b.t.Helper()
	seen := make([]byte, events)
	for _, d := range b.letters() {
		n, err := schemas.FlowPosition(d.EventID)
		if err != nil || d.Reason != "too_old" || n%outdated != 3 {
			b.t.Fatalf("parked: %+v, %v", d, err)
		}
		seen[n] = 1 // once more after a crash would be right
	}
	now := time.Now()
	for from := now.Add(-7 * time.Hour); from.Before(now); from = from.Add(10 * time.Minute) {
		entries, err := s.Lines(b.t.Context(), `{service_name="egresswarden"} != "control"`, from, from.Add(10*time.Minute))
		if err != nil {
			b.t.Fatal(err)
		}
		for _, e := range entries {
			_, id, _ := strings.Cut(e.Line, `"id":"`)
			n, err := schemas.FlowPosition(strings.TrimSuffix(id, `"}`))
			if err != nil {
				b.t.Fatal(err)
			}
			seen[n]++
		}
	}
	for n, times := range seen {
		if times != 1 {
			b.t.Fatalf("event %d is there %d times", n, times)
		}
	}
}
