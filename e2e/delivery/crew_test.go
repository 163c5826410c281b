package delivery

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/build"
	"github.com/egresswarden/egresswarden/internal/testutil/docker"
	"github.com/egresswarden/egresswarden/internal/testutil/loki"
	"github.com/egresswarden/egresswarden/internal/testutil/world"
)

// The gate is the tests' own, and small: outages fill its ring and its flow
// table.
const (
	pinDir      = "/sys/fs/bpf/egwtest"
	ringBytes   = 256 << 10
	flowEntries = 4096
)

// host is what the enforcer calls itself, target what the collectors call Loki.
const (
	host   = "e2e"
	target = "loki"
)

// pipeline is NATS, collectors and Loki: what carries events.
type pipeline struct {
	dir        string
	loki       *loki.Server
	nats       *member
	collectors []*member
}

func newPipeline(t *testing.T, o loki.Options) *pipeline {
	t.Helper()
	dir, err := os.MkdirTemp("", "egw") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &pipeline{dir: dir, loki: loki.Start(t, o)}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p.nats = newMember(t, dir, "nats", func() *exec.Cmd {
		c := exec.Command(self)
		c.Env = append(os.Environ(), envNATS+"="+dir)
		return c
	})
	launch(t, p.nats)
	p.collector(t, target, "")
	return p
}

// collector adds one, which starts. More is YAML of its target.
func (p *pipeline) collector(t *testing.T, target, more string) *member {
	t.Helper()
	name := fmt.Sprintf("collector-%d", len(p.collectors)+1)
	config := filepath.Join(p.dir, name+".yaml")
	text := fmt.Sprintf("name: collector@%s\nnats: {url: %q}\ntargets: [{name: %s, url: %s, %s}]\nlisten_metrics: ''\n%s",
		name, p.url(), target, p.loki.URL, more, takeover)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	program := build.Binary(t, "cmd/egw-collector")
	m := newMember(t, p.dir, name, func() *exec.Cmd { return exec.Command(program, "-config", config) })
	launch(t, m)
	p.collectors = append(p.collectors, m)
	return m
}

// takeover makes the collectors take over from each other, and from themselves,
// sooner than people want it.
const takeover = "takeover_seconds: 2\n"

func (p *pipeline) url() string { return "unix://" + filepath.Join(p.dir, "s") }

// events connects to the event log. It is closed when the test ends.
func (p *pipeline) events(t *testing.T) *eventlog.Log {
	t.Helper()
	var l *eventlog.Log
	testutil.Eventually(t, "the event log answers", func() (err error) {
		l, err = eventlog.Connect(context.WithoutCancel(t.Context()), eventlog.Options{URL: p.url()})
		return err
	})
	t.Cleanup(l.Close)
	return l
}

// drained waits until the target has got all that NATS has.
func (p *pipeline) drained(t *testing.T, l *eventlog.Log, target string) {
	t.Helper()
	c := l.Consumer(eventlog.ConsumerOptions{Stream: "EGW_FLOWS", Name: "collector-" + target})
	testutil.Eventually(t, "all is delivered", func() error {
		s, err := c.Status(t.Context())
		if err == nil && s.Pending > 0 {
			err = fmt.Errorf("%d messages are not delivered, the oldest of %s", s.Pending, s.Oldest)
		}
		return err
	})
}

func launch(t *testing.T, v victim) {
	t.Helper()
	if err := v.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// crew is a pipeline with a gate, an enforcer and Docker before it.
type crew struct {
	*pipeline
	docker   *docker.Daemon
	enforcer *member
}

func newCrew(t *testing.T, o loki.Options) *crew {
	t.Helper()
	testutil.Privileged(t)
	detach(t)
	w := world.New(t)
	c := &crew{docker: docker.Start(t, w), pipeline: newPipeline(t, o)}
	config := filepath.Join(c.dir, "enforcer.yaml")
	text := fmt.Sprintf("host: %s\ndata: %s/data\npins: %s\npolicies: %s\ndocker: unix://%s\nnats: {url: %q}\nring_bytes: %d\nflow_entries: %d\nlisten_metrics: ''\n",
		host, c.dir, pinDir, c.policies(), c.docker.Socket, c.url(), ringBytes, flowEntries)
	if err := errors.Join(os.Mkdir(c.policies(), 0o755), os.WriteFile(config, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	program := build.Binary(t, "cmd/egw-enforcer")
	c.enforcer = newMember(t, c.dir, "enforcer", func() *exec.Cmd { return exec.Command(program, "-config", config, "-log-level", "warn") })
	launch(t, c.enforcer)
	return c
}

func (c *crew) policies() string { return filepath.Join(c.dir, "policies") }

// detach takes the gate off, now what a crashed test left, and in the end.
func detach(t *testing.T) {
	t.Helper()
	off := func() {
		if _, err := bpf.Detach(pinDir); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("detach: %v", err)
		}
		_ = os.Remove(pinDir)
	}
	off()
	t.Cleanup(off)
}

// gate opens what the enforcer has pinned, to look at it. Close it.
func (c *crew) gate(t *testing.T) *bpf.Gate {
	t.Helper()
	var g *bpf.Gate
	testutil.Eventually(t, "the gate is pinned", func() (err error) {
		g, err = bpf.Open(bpf.Options{PinDir: pinDir, RingBytes: ringBytes, FlowEntries: flowEntries})
		return err
	})
	return g
}
