package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/build"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// hub is an event log with a token, and a learner of its own process.
type hub struct {
	dir, program string
	log          *eventlog.Log
	state        *policy.State
	sent         uint64
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{dir: t.TempDir(), program: build.Binary(t, "cmd/egw-learner"), state: policy.NewState()}
	s, err := eventlog.StartServer(eventlog.ServerOptions{
		Dir: filepath.Join(h.dir, "nats"), Listen: "127.0.0.1:0", TokenFile: filepath.Join(h.dir, "token"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if h.log, err = eventlog.Connect(t.Context(), s.Options()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.log.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	text := fmt.Sprintf("nats: {url: 'nats://%s', token_file: %s/token}\nsnapshot: %s/learner/evidence\n", s.Addr(), h.dir, h.dir)
	if err := os.WriteFile(h.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hub) config() string { return filepath.Join(h.dir, "learner.yaml") }

// start runs the program until the test or kill, which is kill -9, ends it.
func (h *hub) start(t *testing.T) (pid int, kill func()) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(h.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(h.program, "-config", h.config(), "-log-level", "debug")
	c.Stderr = log
	if err := errors.Join(c.Start(), log.Close()); err != nil {
		t.Fatal(err)
	}
	ended := false
	kill = func() {
		if ended {
			return
		}
		ended = true
		_ = c.Process.Kill()
		if err := c.Wait(); err == nil || c.ProcessState.Exited() {
			text, _ := os.ReadFile(filepath.Join(h.dir, "log"))
			t.Errorf("the learner ended by itself: %s\n%s", c.ProcessState, text)
		}
	}
	t.Cleanup(kill)
	return c.Process.Pid, kill
}

// write records would-be denials, each to another address.
func (h *hub) write(t *testing.T, name string, dsts ...netip.Addr) {
	t.Helper()
	w := h.log.FlowWriter("h1", fmt.Sprint("boot", h.sent))
	defer w.Close()
	var flows []*schemas.Flow
	for i, dst := range dsts {
		flows = append(flows, &schemas.Flow{
			Id: schemas.FlowID("h1", fmt.Sprint("boot", h.sent), uint64(i)), TimeNs: time.Now().UnixNano(), Host: "h1", Count: 1,
			Verdict: schemas.Verdict_VERDICT_WOULD_DENY, Mode: schemas.Mode_MODE_LEARN, Workload: name, Policy: name, Proto: 6,
			DstIp: dst.AsSlice(), DstPort: 443, Comm: "curl", ContainerId: "c1",
		})
	}
	h.sent++
	if err := errors.Join(w.Write(t.Context(), flows, uint64(len(flows))), w.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// open folds on in the policy log, and gives what is open.
func (h *hub) open(t *testing.T, name string) ([]policy.Proposal, error) {
	t.Helper()
	for e, err := range h.log.PolicyEvents(t.Context(), h.state.Revision()+1, false) {
		if err != nil {
			return nil, err
		}
		h.state.Apply(e.Revision, e.Event)
	}
	return h.state.Proposals(name, policy.StatusOpen), nil
}

// awaitSeen waits until one proposal tells of so many decisions.
func (h *hub) awaitSeen(t *testing.T, name string, want uint64) {
	t.Helper()
	testutil.Eventually(t, fmt.Sprintf("a proposal that has seen %d decisions", want), func() error {
		open, err := h.open(t, name)
		if err != nil {
			return err
		}
		if len(open) != 1 || open[0].Body.GetRules()[0].GetCount() != want {
			return fmt.Errorf("%v", open)
		}
		return nil
	})
}

func TestProposesAsAProcessAndGoesOnAfterAKill(t *testing.T) {
	h, dst := newHub(t), netip.MustParseAddr("192.0.2.7")
	h.write(t, "web", dst)
	_, kill := h.start(t)
	h.awaitSeen(t, "web", 1)
	kill()
	for range 8 { // enough for the evidence to be another
		h.write(t, "web", dst)
	}
	_, kill = h.start(t)
	h.awaitSeen(t, "web", 9)
	kill()
}

func TestEndsInGoodOrderAndKeepsItsEvidence(t *testing.T) {
	h := newHub(t)
	h.write(t, "web", netip.MustParseAddr("192.0.2.7"))
	c := exec.Command(h.program, "-config", h.config())
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill() }()
	h.awaitSeen(t, "web", 1)
	if err := errors.Join(c.Process.Signal(os.Interrupt), c.Wait()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "learner", "evidence")); err != nil {
		t.Error(err)
	}
}

func TestChecksItsConfiguration(t *testing.T) {
	h := newHub(t)
	if out, err := exec.Command(h.program, "-config", h.config(), "-check").CombinedOutput(); err != nil || !strings.Contains(string(out), "is right") {
		t.Errorf("%s: %v", out, err)
	}
	if err := os.WriteFile(h.config(), []byte("snapsot: x"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(h.program, "-config", h.config(), "-check").CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "snapsot") {
		t.Errorf("%s: %v", out, err)
	}
}

// TestTenThousandOpenProposals holds that a learner starts with a log full of
// open proposals, keeps them as they are, and still proposes.
func TestTenThousandOpenProposals(t *testing.T) {
	const policies, each = 20, 500
	h := newHub(t)
	for n := range policies {
		var dsts []netip.Addr
		for i := range each {
			dsts = append(dsts, netip.AddrFrom4([4]byte{10, byte(n), byte(i / 2), byte(i%2*128 + 1)}))
		}
		h.write(t, fmt.Sprint("web-", n), dsts...)
	}
	began := time.Now()
	_, kill := h.start(t)
	h.awaitOpen(t, policies*each)
	t.Logf("%d proposals were opened in %.1f s", policies*each, time.Since(began).Seconds())
	kill()
	revision, err := h.log.PolicyRevision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	pid, kill := h.start(t)
	h.write(t, "new", netip.MustParseAddr("192.0.2.7"))
	h.awaitSeen(t, "new", 1)
	t.Logf("started and proposed in %.1f s, with %d MiB of memory", time.Since(began).Seconds(), resident(t, pid))
	began = time.Now()
	h.write(t, "newer", netip.MustParseAddr("192.0.2.8"))
	h.awaitSeen(t, "newer", 1)
	t.Logf("proposed again in %.1f s", time.Since(began).Seconds())
	kill()
	if end, err := h.log.PolicyRevision(t.Context()); err != nil || end != revision+2 {
		t.Errorf("the log ends at %d (%v), want %d: what was open was opened or withdrawn again", end, err, revision+2)
	}
}

func (h *hub) awaitOpen(t *testing.T, want int) {
	t.Helper()
	testutil.Eventually(t, fmt.Sprintf("%d open proposals", want), func() error {
		open, err := h.open(t, "")
		if err == nil && len(open) != want {
			err = fmt.Errorf("%d are open", len(open))
		}
		return err
	})
}

// resident is the memory of a process, in MiB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib / 1024
}
