package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/enforcer/doctor"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/build"
	"github.com/egresswarden/egresswarden/internal/testutil/cgroup"
)

// buffer is written by a process while the test reads.
type buffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

// Write appends.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

// String is all that was written.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

// host is an egw up with a gate of its own, at a cgroup of its own.
type host struct {
	bin, dir, pins, cgroup string
	log                    *buffer
	cmd                    *exec.Cmd
}

func newHost(t *testing.T) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "egw") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &host{bin: build.Binary(t, "cmd/egw"), dir: dir, cgroup: cgroup.New(t).Path}
	h.pins = "/sys/fs/bpf/egwtest-" + filepath.Base(h.cgroup)
	t.Cleanup(func() {
		if _, err := enforcer.Detach(h.pins); err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(filepath.Join(dir, "policies"), 0o755); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) socket() string { return filepath.Join(h.dir, "s") }

func (h *host) upArgs() []string {
	return []string{
		"up", "--data", filepath.Join(h.dir, "data"), "--pins", h.pins, "--socket", h.socket(), "--listen", "", "--host", "test-1",
		"--policies", filepath.Join(h.dir, "policies"), "--docker", "unix://" + h.dir + "/no-docker.sock", "--cgroup-root", h.cgroup,
		"--metrics", "127.0.0.1:0",
	}
}

// up starts the process and waits until it has said all.
func (h *host) up(t *testing.T) {
	t.Helper()
	h.log = &buffer{}
	h.cmd = exec.Command(h.bin, h.upArgs()...)
	h.cmd.Stderr = h.log
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := h.cmd
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	h.said(t, "egress=learn")
}

func (h *host) said(t *testing.T, text string) {
	t.Helper()
	err := testutil.Poll(t.Context(), testutil.Long, func() error {
		if strings.Contains(h.log.String(), text) {
			return nil
		}
		return fmt.Errorf("it did not say %q", text)
	})
	if err != nil {
		t.Fatalf("%v:\n%s", err, h.log)
	}
}

// stop interrupts the process and gives its exit code.
func (h *host) stop(t *testing.T) int {
	t.Helper()
	if err := h.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err := h.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return h.cmd.ProcessState.ExitCode()
}

// egw runs another command of the binary.
func (h *host) egw(t *testing.T, args ...string) result {
	t.Helper()
	cmd := exec.Command(h.bin, args...)
	cmd.Env = append(os.Environ(), "EGW_NATS=unix://"+h.socket())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// levels are what the doctor finds.
func (h *host) levels(t *testing.T) map[string]doctor.Level {
	t.Helper()
	r := h.egw(t, "doctor", "--pins", h.pins, "--cgroup-root", h.cgroup, "--docker", "unix://"+h.dir+"/no-docker.sock", "-o", "json")
	r.want(t, exitUnhealthy) // there is no Docker
	var checks []doctor.Check
	if err := json.Unmarshal([]byte(r.stdout), &checks); err != nil {
		t.Fatalf("%v: %s%s", err, r.stdout, r.stderr)
	}
	found := map[string]doctor.Level{}
	for _, c := range checks {
		found[c.Name] = c.Level
		t.Logf("%s: %s %s", c.Level, c.Name, c.Detail)
	}
	return found
}

func TestAHostFromUpToDetach(t *testing.T) {
	testutil.Privileged(t)
	h := newHost(t)
	rules := filepath.Join(h.dir, "policies", "web.rules")
	if err := os.WriteFile(rules, []byte("# the list\n203.0.113.0/24 tcp/443  # shop\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.up(t)
	for _, text := range []string{"does not answer at unix://", "in force, pinned at " + h.pins, h.socket(), "loki       none: events stay in "} {
		h.said(t, text)
	}
	h.egw(t, "status").want(t, exitOK, "HOST test-1  enforcing, DOCKER AWAY", "problem: docker:")
	h.serves(t)
	h.explains(t, rules)
	if r := h.egw(t, h.upArgs()...); r.code != exitError || !strings.Contains(r.stderr, "another enforcer is running there") {
		t.Errorf("a second egw up: exit code %d: %s", r.code, r.stderr)
	}
	if got := h.levels(t); got["gate"] != doctor.OK || got["probe"] != doctor.OK {
		t.Errorf("the doctor: gate %s, probe %s", got["gate"], got["probe"])
	}
	testutil.Eventually(t, "the probe is recorded as such", func() error {
		if r := h.egw(t, "flows", "--workload", "egw-doctor", "-o", "json"); strings.Count(r.stdout, `"reason":"doctor"`) != 2 {
			return errors.New(r.stdout + r.stderr)
		}
		return nil
	})
	if code := h.stop(t); code != exitOK {
		t.Errorf("stopped with exit code %d:\n%s", code, h.log)
	}
	h.said(t, "the gate stays in force")
	h.egw(t, "status").want(t, exitError)
	if got := h.levels(t)["probe"]; got != doctor.OK {
		t.Errorf("the gate without a process, by the doctor's probe: %s", got)
	}
	h.up(t)
	h.explains(t, rules)
	h.egw(t, "detach", "--yes", "--pins", h.pins).want(t, exitOK, "removed "+h.pins)
	h.egw(t, "status").want(t, exitUnhealthy, "NOT ENFORCING")
	if got := h.levels(t); got["gate"] != doctor.Fail || got["probe"] != doctor.Fail {
		t.Error("the doctor finds a gate that was taken off")
	}
	if code := h.stop(t); code != exitOK {
		t.Errorf("stopped with exit code %d:\n%s", code, h.log)
	}
	if h.said(t, "nothing is enforced"); strings.Contains(h.log.String(), "stays in force") {
		t.Errorf("detached, it says:\n%s", h.log)
	}
}

// serves holds that metrics, health and readiness are where the greeting says.
func (h *host) serves(t *testing.T) {
	t.Helper()
	found := regexp.MustCompile(`metrics +(http://127\.0\.0\.1:\d+)/metrics`).FindStringSubmatch(h.log.String())
	if found == nil {
		t.Fatalf("it does not say where the metrics are:\n%s", h.log)
	}
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"/metrics": {http.StatusOK, "\negw_enforcer_enforcing 1\n"}, "/healthz": {http.StatusOK, "ok"},
		"/readyz": {http.StatusServiceUnavailable, "docker: docker's event stream does not stand"},
	} {
		answer, err := http.Get(found[1] + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != want.code || !strings.Contains(string(text), want.text) {
			t.Errorf("%s answers %d (%v) without %q: %s", path, answer.StatusCode, err, want.text, text)
		}
	}
}

// explains waits until the allow-list is in force and asks about it.
func (h *host) explains(t *testing.T, rules string) {
	t.Helper()
	testutil.Eventually(t, "the allow-list is imported", func() error {
		if r := h.egw(t, "explain", "web", "203.0.113.7:443"); r.code != 0 {
			return errors.New(r.stderr)
		}
		return nil
	})
	h.egw(t, "explain", "web", "203.0.113.7:443").want(t, exitOK, "allowed", "203.0.113.0/24 tcp/443", "shop", rules+":2", "test-1")
	h.egw(t, "explain", "web", "203.0.113.7:80").want(t, exitOK, "denied", "no rule allows it")
	h.egw(t, "explain", "web", "[::ffff:203.0.113.7]:443").want(t, exitOK, "allowed")
	h.egw(t, "explain", "web", "127.0.0.1:443").want(t, exitOK, "not judged", "loopback")
	h.egw(t, "explain", "wep", "203.0.113.7:443").want(t, exitNotFound)
}
