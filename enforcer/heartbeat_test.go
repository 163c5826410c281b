package enforcer

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/policy"
)

func TestTheHeartbeatTellsHowTheHostStands(t *testing.T) {
	e := newBare(t, "web-1", newFakeKernel())
	put(t, e.registry, labelled("a", "learn"))
	put(t, e.registry, labelled("b", "learn"))
	put(t, e.registry, labelled("c", "block"))
	e.ledger.stand(7, "mark")
	now := time.Unix(1_800_000_000, 0)
	e.alive(7, now)
	want := map[string]string{
		"revision": "7", "log_revision": "9", "problems": "0", "containers": "3", "workloads_allow": "0", "workloads_learn": "2", "workloads_block": "1",
		"learning_workload": "name-a", "learning_seconds": "3600",
	}
	got := e.alive(9, now.Add(time.Hour))
	if diff := cmp.Diff(want, got.Detail); diff != "" || got.Revision != 7 || got.Kind != "enforcer.alive" {
		t.Errorf("%s\n%+v", diff, got)
	}

	e.problems.set("docker", errors.New("no answer"))
	e.problems.set("snapshot", errors.New("disk full"))
	maps.Copy(want, map[string]string{"problems": "2", "problem": "docker: no answer", "learning_seconds": "7200"})
	if diff := cmp.Diff(want, e.alive(9, now.Add(2*time.Hour)).Detail); diff != "" {
		t.Error(diff)
	}
}

func TestTheTimeOfLearningIsKept(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	day := func(n int) time.Time { return start.Add(time.Duration(n) * 24 * time.Hour) }
	r, _ := newTestRegistry(t, newFakeKernel())
	setPolicies(t, r, policySet{})
	put(t, r, labelled("a", "learn"))
	r.census(day(0))
	put(t, r, labelled("b", "learn"))

	t.Run("while a container is made anew", func(t *testing.T) {
		if err := r.Remove("a"); err != nil {
			t.Fatal(err)
		}
		again := labelled("a2", "learn")
		again.Name = "name-a"
		put(t, r, again)
		if c := r.census(day(2)); c.learner != "name-a" || c.learning != day(2).Sub(day(0)) {
			t.Errorf("%+v", c)
		}
	})
	t.Run("over a restart", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "snapshot.json")
		if err := r.snapshot().write(path); err != nil {
			t.Fatal(err)
		}
		s, err := loadSnapshot(path)
		if err != nil {
			t.Fatal(err)
		}
		after, _ := newTestRegistry(t, newFakeKernel())
		after.restore(s)
		if c := after.census(day(3)); c.learner != "name-a" || c.learning != day(3).Sub(day(0)) {
			t.Errorf("%+v", c)
		}
	})
	t.Run("until it blocks, and then anew", func(t *testing.T) {
		setPolicies(t, r, policySet{Modes: map[string]policy.Mode{"name-a": policy.ModeBlock}})
		if c := r.census(day(4)); c.learner != "name-b" || c.learning != day(4).Sub(day(2)) {
			t.Errorf("%+v", c)
		}
		setPolicies(t, r, policySet{Modes: map[string]policy.Mode{"name-b": policy.ModeAllow}})
		if c := r.census(day(5)); c.learner != "name-a" || c.learning != 0 || c.workloads[policy.ModeAllow] != 1 {
			t.Errorf("%+v", c)
		}
	})
	t.Run("and is saved when it changes alone", func(t *testing.T) {
		select {
		case <-r.changed:
		default:
			t.Error("a workload that began to learn is not saved")
		}
		r.census(day(6))
		select {
		case <-r.changed:
			t.Error("saved without a change")
		default:
		}
	})
}

func TestTheFirstHeartbeatComesAtTheStart(t *testing.T) {
	st := newStation(t)
	background(t, func(ctx context.Context) error { return st.report.run(ctx, st.events) })
	st.appendTo(t, "web", "192.0.2.0/24")
	background(t, func(ctx context.Context) error { return st.heartbeat(ctx, st.events) })
	eventually(t, "it tells the end of the log", func() bool {
		for ev, err := range st.events.HostEvents(t.Context(), eventlog.HostQuery{}) {
			if err == nil && ev.GetKind() == "enforcer.alive" {
				return ev.GetDetail()["log_revision"] == "1" && ev.GetRevision() == 0
			}
		}
		return false
	})
}
