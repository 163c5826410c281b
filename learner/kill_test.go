package learner

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// The test binary is also the learner that is killed.
const (
	envSocket   = "EGW_TEST_SOCKET"
	envSnapshot = "EGW_TEST_SNAPSHOT"
)

func TestMain(m *testing.M) {
	if socket := os.Getenv(envSocket); socket != "" {
		if err := learn(context.Background(), socket, os.Getenv(envSnapshot)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func learn(ctx context.Context, socket, snapshot string) error {
	l, err := eventlog.Connect(ctx, eventlog.Options{URL: "unix://" + socket})
	if err != nil {
		return err
	}
	defer l.Close()
	return Run(ctx, l, Config{Snapshot: snapshot, PlanEvery: time.Millisecond, SaveEvery: time.Millisecond,
		Now: func() time.Time { return noon }})
}

// child runs the learner as a process; kill ends it without warning.
func child(t *testing.T, socket, snapshot string) (kill func()) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), envSocket+"="+socket, envSnapshot+"="+snapshot)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := c.Process.Kill(); err != nil {
			t.Error(err)
		}
		if err := c.Wait(); err == nil {
			t.Error("the learner ended by itself")
		}
	}
}

func TestKilledLearnerEndsWithTheSameEvidenceAndProposals(t *testing.T) {
	dir, err := os.MkdirTemp("", "egw") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	socket, snapshot := filepath.Join(dir, "s"), filepath.Join(dir, "evidence")
	l := connect(t, func(o *eventlog.ServerOptions) { o.Socket = socket })
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 20 {
		kill := child(t, socket, snapshot)
		var flows []*schemas.Flow
		for range 10 {
			flows = append(flows, flow(fmt.Sprintf("192.0.2.%d", rnd.IntN(40)), uint16(80+rnd.IntN(3)), by([]string{"a", "b"}[rnd.IntN(2)])))
		}
		write(t, l, fmt.Sprint("boot", i), flows...)
		time.Sleep(time.Duration(rnd.IntN(150)) * time.Millisecond) // the kill comes anywhere
		kill()
	}
	b := newBench(t)
	end, err := l.FlowEnd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.Stream(end.Made)
	for e, err := range l.FlowEntries(t.Context(), 0, false) {
		if err != nil {
			t.Fatal(err)
		}
		b.Flows(e.Sequence, e.Flows)
	}
	b.plan(noon)
	want, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(child(t, socket, snapshot))
	testutil.Eventually(t, "the evidence of an undisturbed run", func() error {
		got, err := os.ReadFile(snapshot)
		if err == nil && string(got) != string(want) {
			err = errors.New("it is another")
		}
		return err
	})
	testutil.Eventually(t, "the proposals of an undisturbed run", func() error {
		if diff := cmp.Diff(wanted(b.State()), wanted(fold(t, l))); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}

// wanted lists what is open, with its evidence.
func wanted(s *policy.State) []string {
	var out []string
	for _, p := range s.Proposals("web", policy.StatusOpen) {
		out = append(out, p.Body.Rules[0].Rule.Text+" "+p.Body.Evidence)
	}
	slices.Sort(out)
	return out
}
