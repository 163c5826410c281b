package enforcer

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/cgroup"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// host is a real enforcer over a real gate, with cgroups of the test's own in
// place of Docker's containers.
type host struct {
	*Enforcer
	root   *cgroup.Group
	server eventlog.ServerOptions
	// url is where the event log answers.
	url string
}

func startHost(t *testing.T, root *cgroup.Group, change func(*Config)) *host {
	t.Helper()
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.Host, cfg.Data, cfg.Policies = "test", filepath.Join(dir, "data"), filepath.Join(dir, "policies")
	cfg.Pins, cfg.CgroupRoot = "/sys/fs/bpf/egwtest-account", root.Path
	cfg.Docker = "unix://" + filepath.Join(dir, "no-docker.sock")
	h := &host{root: root, server: eventlog.ServerOptions{Dir: filepath.Join(dir, "nats"), Socket: filepath.Join(dir, "nats.sock")}}
	cfg.NATS.URL = "unix://" + h.server.Socket
	h.url = cfg.NATS.URL
	change(&cfg)
	e, err := New(cfg, slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	h.Enforcer = e
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("enforcer: %v", err)
		}
		if _, err := Detach(cfg.Pins); err != nil {
			t.Error(err)
		}
	})
	return h
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// startServer is NATS coming back.
func (h *host) startServer(t *testing.T) *eventlog.Server {
	t.Helper()
	s, err := eventlog.StartServer(h.server)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// container is a cgroup that the gate takes for a container whose loopback is
// judged.
func (h *host) container(t *testing.T, name, mode string) (*cgroup.Group, uint32) {
	t.Helper()
	g := h.root.Child(t, name)
	id := fmt.Sprintf("%064x", name)
	put(t, h.registry, description{ID: id, Name: name, Labels: map[string]string{labelMode: mode}, Running: true, Detail: &detail{HostNet: true}})
	index := uint32(0)
	for _, c := range h.registry.List() {
		if c.ID == id {
			index = c.Index
		}
	}
	if err := h.gate.PutCgroup(g.ID, index); err != nil {
		t.Fatal(err)
	}
	return g, index
}

func runFlood(t *testing.T, g *cgroup.Group, first, dests, rounds int) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env, c.Stderr = append(os.Environ(), floodSpec(first, dests, rounds)), testWriter{t}
	if err := g.Start(nil, c); err != nil {
		t.Fatal(err)
	}
	return c
}

// told adds up what the event log holds, until it is what the kernel counted.
func (h *host) told(t *testing.T, want map[string]Counters) map[string]*schemas.Flow {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Long)
	defer cancel()
	log, err := eventlog.Connect(ctx, eventlog.Options{URL: h.url, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	sum, ids, first := map[string]Counters{}, map[string]bool{}, map[string]*schemas.Flow{}
	equal := func() bool {
		for name, w := range want {
			if s := sum[name]; s.Allow != w.Allow || s.Deny != w.Deny || s.WouldDeny != w.WouldDeny {
				return false
			}
		}
		return true
	}
	for f, err := range log.Flows(ctx, eventlog.FlowQuery{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if ids[f.GetId()] {
			t.Fatalf("event %s is told twice", f.GetId())
		}
		ids[f.GetId()] = true
		c := sum[f.GetContainer()]
		c.add(count(f))
		sum[f.GetContainer()] = c
		if key := f.GetContainer() + " " + f.GetReason() + f.GetAttempt(); first[key] == nil {
			first[key] = f
		}
		if equal() {
			break
		}
	}
	if !equal() {
		t.Fatalf("the event log holds %+v, the kernel counted %+v", sum, want)
	}
	t.Logf("%d events hold %+v", len(ids), sum)
	return first
}

func count(f *schemas.Flow) (c Counters) {
	switch f.GetVerdict() {
	case schemas.Verdict_VERDICT_ALLOW:
		c.Allow = f.GetCount()
	case schemas.Verdict_VERDICT_DENY:
		c.Deny = f.GetCount()
	case schemas.Verdict_VERDICT_WOULD_DENY:
		c.WouldDeny = f.GetCount()
	}
	return c
}

// TestEveryDecisionIsTold floods the gate with more than ring and flow table
// hold, while NATS is away, and compares with the kernel's own counters.
func TestEveryDecisionIsTold(t *testing.T) {
	const dests, rounds = 100_000, 10
	root := cgroup.New(t)
	h := startHost(t, root, func(c *Config) { c.RingBytes, c.FlowEntries = 4096, 1<<13 })
	server := h.startServer(t)
	noisy, noisyIndex := h.container(t, "noisy", "learn")
	quiet, quietIndex := h.container(t, "quiet", "block")
	eventually(t, "the pump runs", func() bool { return h.events.Load() != nil })

	wait := func(c *exec.Cmd) {
		t.Helper()
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	wait(runFlood(t, quiet, 0, 1, 1))
	eventually(t, "the first events are acknowledged", func() bool { return h.pump.acked.Load() > 0 })
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	flooding := runFlood(t, noisy, 0, dests, rounds)
	wait(runFlood(t, quiet, 0, 100, 1))
	wait(flooding)
	if o := h.counters(noisyIndex); o.WouldDeny != dests*rounds+rounds || o.Overflow == 0 {
		t.Errorf("the kernel counted %+v, want %d would_deny and an overflow", o, dests*rounds+rounds)
	}
	if o := h.counters(quietIndex); o.Deny != 103 {
		t.Errorf("the kernel counted %+v of the quiet container, want 103 denials", o)
	}
	server = h.startServer(t)
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	first := h.told(t, map[string]Counters{"noisy": h.counters(noisyIndex), "quiet": h.counters(quietIndex)})
	if f := first["noisy "+schemas.ReasonOverflow]; f == nil || f.GetDstIp() != nil {
		t.Errorf("the overflow is %v, want an event without a destination", f)
	}
	if f := first["quiet "]; f == nil || f.GetMode() != schemas.Mode(policy.ModeBlock) || len(f.GetDstIp()) != 4 || f.GetWorkload() != "quiet" {
		t.Errorf("the quiet container's denial is %v", f)
	}
	if f := first["quiet inet raw socket"]; f == nil || f.GetHook() != "sock_create" || f.GetDstIp() != nil || f.GetProto() != 255 || f.GetPid() == 0 {
		t.Errorf("the quiet container's raw socket is %v", f)
	}
}

// TestOneNoisyContainerHidesNoOthersDenials compares while the noise goes on.
func TestOneNoisyContainerHidesNoOthersDenials(t *testing.T) {
	root := cgroup.New(t)
	h := startHost(t, root, func(*Config) {})
	server := h.startServer(t)
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	noisy, _ := h.container(t, "noisy", "block")
	quiet, index := h.container(t, "quiet", "block")
	eventually(t, "the pump runs", func() bool { return h.events.Load() != nil })
	flooding := runFlood(t, noisy, 0, 100_000, 10)
	time.Sleep(100 * time.Millisecond) // in the midst of the noise
	if err := runFlood(t, quiet, 0, 20, 1).Wait(); err != nil {
		t.Fatal(err)
	}
	h.told(t, map[string]Counters{"quiet": h.counters(index)})
	if err := flooding.Wait(); err != nil {
		t.Fatal(err)
	}
}
