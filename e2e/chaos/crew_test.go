package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/build"
	"github.com/egresswarden/egresswarden/internal/testutil/cgroup"
	"github.com/egresswarden/egresswarden/learner"
)

// envRole makes the test binary one of the processes that are killed; they
// find their files in envDir.
const (
	envRole = "EGW_TEST_ROLE"
	envDir  = "EGW_TEST_DIR"
)

// noon is when everything happens, so that no evidence depends on the hour.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	role := map[string]func(string) error{"server": serve, "learner": learn}[os.Getenv(envRole)]
	if role == nil {
		os.Exit(m.Run())
	}
	go func() { // the test's end is ours
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Fprintln(os.Stderr, os.Getenv(envRole), role(os.Getenv(envDir)))
	os.Exit(1)
}

func serve(dir string) error {
	if _, err := eventlog.StartServer(eventlog.ServerOptions{Dir: filepath.Join(dir, "nats"), Socket: filepath.Join(dir, "s")}); err != nil {
		return err
	}
	select {}
}

func learn(dir string) error {
	log, err := os.OpenFile(filepath.Join(dir, "learner.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for { // the server may be away
		l, err := eventlog.Connect(context.Background(), eventlog.Options{URL: "unix://" + filepath.Join(dir, "s")})
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		return learner.Run(context.Background(), l, learner.Config{
			Snapshot: filepath.Join(dir, "evidence"), PlanEvery: 5 * time.Millisecond, SaveEvery: 5 * time.Millisecond,
			Now: func() time.Time { return noon }, Log: slog.New(slog.NewTextHandler(log, nil)),
		})
	}
}

// crew are the processes of one host.
type crew struct {
	dir, egw string
	all      []*process
	log      *eventlog.Log
}

// process is started anew whenever it ends, until the test does.
type process struct {
	name string
	make func() *exec.Cmd

	mu     sync.Mutex
	cmd    *exec.Cmd // nil while it does not run
	killed bool
	ending bool
	ended  chan struct{}
}

// newCrew starts a host.
func newCrew(t *testing.T) *crew {
	t.Helper()
	dir, err := os.MkdirTemp("", "egw") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := &crew{dir: dir, egw: build.Binary(t, "cmd/egw")}
	t.Cleanup(func() {
		if text, err := os.ReadFile(filepath.Join(dir, "learner.log")); t.Failed() {
			t.Logf("the learner's log: %v\n%s", err, text[max(0, len(text)-4000):])
		}
	})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"server", "learner"} {
		c.keep(t, role, func() *exec.Cmd {
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), envRole+"="+role, envDir+"="+dir)
			return cmd
		})
	}
	c.enforce(t)
	testutil.Eventually(t, "the event log answers", func() (err error) {
		c.log, err = eventlog.Connect(t.Context(), eventlog.Options{URL: c.url()})
		return err
	})
	t.Cleanup(c.log.Close)
	return c
}

func (c *crew) url() string { return "unix://" + filepath.Join(c.dir, "s") }

// enforce adds an enforcer with a gate of its own and no Docker.
func (c *crew) enforce(t *testing.T) {
	t.Helper()
	g := cgroup.New(t)
	pins := "/sys/fs/bpf/egwtest-" + filepath.Base(g.Path)
	t.Cleanup(func() {
		if _, err := enforcer.Detach(pins); err != nil {
			t.Error(err)
		}
	})
	config := filepath.Join(c.dir, "enforcer.yaml")
	text := fmt.Sprintf("host: h1\ndata: %s/data\npins: %s\npolicies: %s/policies\ndocker: unix://%s/no-docker.sock\ncgroup_root: %s\nnats: {url: %q}\n",
		c.dir, pins, c.dir, c.dir, g.Path, c.url())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	program := build.Binary(t, "cmd/egw-enforcer")
	c.keep(t, "enforcer", func() *exec.Cmd { return exec.Command(program, "-config", config, "-log-level", "error") })
}

// keep runs a process until the test ends.
func (c *crew) keep(t *testing.T, name string, command func() *exec.Cmd) {
	p := &process{name: name, make: command, ended: make(chan struct{})}
	c.all = append(c.all, p)
	go func() {
		defer close(p.ended)
		for p.once(t) {
		}
	}()
	t.Cleanup(func() {
		p.mu.Lock()
		p.ending = true
		p.mu.Unlock()
		p.kill()
		<-p.ended
	})
}

// once runs the process to its end; false is for ever.
func (p *process) once(t *testing.T) bool {
	cmd := p.make()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Error(err)
		return false
	}
	defer in.Close()
	p.mu.Lock()
	if p.ending {
		p.mu.Unlock()
		return false
	}
	if err := cmd.Start(); err != nil {
		p.mu.Unlock()
		t.Errorf("start %s: %v", p.name, err)
		return false
	}
	p.cmd, p.killed = cmd, false
	p.mu.Unlock()
	err = cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd = nil
	if !p.killed {
		t.Errorf("the %s ended by itself: %v", p.name, err)
		return false
	}
	return true
}

// kill is kill -9; false when it does not run at the moment.
func (p *process) kill() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.killed {
		return false
	}
	p.killed = true
	return p.cmd.Process.Kill() == nil
}

// run runs an egw to its end, which is a kill after a while if that is set.
// Whether it could do anything is for the caller to find out.
func (c *crew) run(t *testing.T, killAfter time.Duration, args ...string) (out string, killed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Long)
	defer cancel()
	if killAfter > 0 {
		ctx, cancel = context.WithTimeout(ctx, killAfter)
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, c.egw, args...)
	cmd.Env = append(os.Environ(), "EGW_NATS="+c.url())
	text, err := cmd.CombinedOutput()
	return string(text), err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded)
}
