package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/docker"
)

const wipedWorkload = "wiped"

// TestWipedLog takes the event log away from a host at work: the last good
// revision stays in force, egw status says so with the cures, and each cure is
// one.
func TestWipedLog(t *testing.T) {
	u := newUp(t)
	dir := filepath.Dir(u.socket)
	nats, snapshot, backup := filepath.Join(dir, "data", "nats"), filepath.Join(dir, "data", "snapshot.json"), filepath.Join(dir, "backup")
	c := u.docker.Run(t, docker.Spec{
		Name: "wiped", Network: "dual", Cmd: []string{"stay"},
		Labels: map[string]string{"egress": "block", "egress.policy": wipedWorkload},
	})
	u.egw(t, "", "policy", "allow", wipedWorkload, "192.0.2.1", "tcp/443", "--reason", "before")
	u.admits(t, c, "192.0.2.1:443")
	good := u.revision(t)

	if err := os.RemoveAll(nats); err != nil {
		t.Fatal(err)
	}
	u.lost(t, c, good)
	u.recorded(t, c)
	u.egw(t, "", "policy", "allow", wipedWorkload, "192.0.2.2", "tcp/443", "--reason", "into another log")
	u.stop(t)
	u.start(t, dir, nil)
	u.lost(t, c, good)

	// The second cure: the new log is accepted.
	u.stop(t)
	if err := os.Remove(snapshot); err != nil {
		t.Fatal(err)
	}
	u.start(t, dir, nil)
	u.admits(t, c, "192.0.2.2:443")
	u.followed(t)
	dialAll(t, c, "under the new log", []string{"192.0.2.1:443"}, false)

	// The first: the log is restored.
	u.stop(t)
	if err := errors.Join(os.CopyFS(backup, os.DirFS(nats)), os.RemoveAll(nats)); err != nil {
		t.Fatal(err)
	}
	u.start(t, dir, nil)
	u.lost(t, nil, 0)
	u.stop(t)
	if err := errors.Join(os.RemoveAll(nats), os.Rename(backup, nats)); err != nil {
		t.Fatal(err)
	}
	u.start(t, dir, nil)
	u.followed(t)
	u.egw(t, "", "policy", "allow", wipedWorkload, "192.0.2.3", "tcp/443", "--reason", "after")
	u.admits(t, c, "192.0.2.3:443")
	dialAll(t, c, "under the restored log", []string{"192.0.2.2:443"}, true)
	u.stop(t)
}

// admits waits until the container may go there.
func (u *up) admits(t *testing.T, c *docker.Container, to string) {
	t.Helper()
	testutil.Eventually(t, "the container reaches "+to, func() error {
		if r := dial(t, c, to); !r.OK {
			return errors.New(r.String())
		}
		return nil
	})
}

// lost waits until egw status, which ends with 0 as the host enforces, says
// that the log is lost and what to do, and holds that the container, if given,
// lives as before at the revision.
func (u *up) lost(t *testing.T, c *docker.Container, good uint64) {
	t.Helper()
	var status string
	testutil.Eventually(t, "the loss is told", func() (err error) {
		if status, err = u.try(t, "status"); err != nil {
			return err // for a moment there is no stream
		}
		if !strings.Contains(status, "problem: policy log: ") {
			return errors.New(status)
		}
		return nil
	})
	wants := []string{
		" enforcing, docker connected, ", "the last good revision stays in force",
		"restore the log; or stop the enforcer, remove snapshot.json",
	}
	if c != nil {
		wants = append(wants, fmt.Sprintf("policy revision %d,", good))
	}
	for _, want := range wants {
		if !strings.Contains(status, want) {
			t.Errorf("egw status does not say %q:\n%s", want, status)
		}
	}
	if c != nil {
		dialAll(t, c, "without the log", []string{"192.0.2.1:443"}, true)
		dialAll(t, c, "without the log", []string{"192.0.2.2:443", "203.0.113.9:80"}, false)
	}
}

// recorded holds that decisions go into the new log.
func (u *up) recorded(t *testing.T, c *docker.Container) {
	t.Helper()
	dialAll(t, c, "to be recorded", []string{"203.0.113.77:80"}, false)
	testutil.Eventually(t, "the denial is recorded", func() error {
		flows, err := u.try(t, "flows")
		if err == nil && !strings.Contains(flows, "203.0.113.77") {
			err = errors.New(flows)
		}
		return err
	})
}

// followed waits until nothing is wrong with the policy log.
func (u *up) followed(t *testing.T) {
	t.Helper()
	testutil.Eventually(t, "the log is followed", func() error {
		status, err := u.try(t, "status")
		if err == nil && strings.Contains(status, "policy log") {
			err = errors.New(status)
		}
		return err
	})
}

// try runs an egw that may fail.
func (u *up) try(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Long)
	defer cancel()
	out, err := exec.CommandContext(ctx, u.program, append([]string{"--nats", "unix://" + u.socket}, args...)...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("egw %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}
