package enforcer

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

func (st *station) followLog(t *testing.T) (stop func()) {
	t.Helper()
	return background(t, func(ctx context.Context) error { return st.follow(ctx, st.events) })
}

func TestEveryRevisionOfTheLogComesIntoForce(t *testing.T) {
	st := newStation(t)
	put(t, st.registry, labelled("a", "block"))
	st.appendTo(t, "name-a", "192.0.2.0/24")
	st.followLog(t)
	eventually(t, "what stood in the log is in force", func() bool { return allows(st.kernel, "a") })
	rev := st.appendTo(t, policy.Everyone, "deny 192.0.2.1")
	eventually(t, "what is appended is in force", func() bool { return !allows(st.kernel, "a") && st.ledger.standing().revision == rev })
	if n := st.told("policy.applied"); n < 2 {
		t.Errorf("%d events tell what is in force, want 2", n)
	}
	if p := st.problems.list(); len(p) != 0 {
		t.Errorf("problems: %v", p)
	}
}

func TestAnEventWithoutEffectIsTold(t *testing.T) {
	st := newStation(t)
	put(t, st.registry, labelled("a", "block"))
	st.followLog(t)
	st.appendTo(t, "name-a", "192.0.2.0/24")
	eventually(t, "the first is in force", func() bool { return allows(st.kernel, "a") })
	rev := st.appendTo(t, "name-a", "192.0.2.0/24")
	eventually(t, "the revision is taken", func() bool { return st.ledger.standing().revision == rev })
	if st.told("policy.refused") != 1 || !allows(st.kernel, "a") {
		t.Error("it is not told once, or had an effect")
	}
}

// standAt makes the station enforce what the log says, and forget the log.
func (st *station) standAt(t *testing.T, rev uint64) {
	t.Helper()
	stop := st.followLog(t)
	eventually(t, "the log is in force", func() bool { return st.ledger.standing().revision == rev })
	stop()
}

func TestALostLogKeepsTheLastGoodRevisionAndSaysSo(t *testing.T) {
	st := newStation(t)
	put(t, st.registry, labelled("a", "block"))
	st.appendTo(t, "other", "198.51.100.0/24")
	st.standAt(t, st.appendTo(t, "name-a", "192.0.2.0/24"))
	_, other := testServer(t, filepath.Join(t.TempDir(), "nats"))
	for _, tc := range []struct {
		name   string
		change func()
	}{
		{"empty", func() {}},
		{"shorter", func() { appendRules(t, other, "name-a", "deny 192.0.2.0/24") }},
		{"as long and another", func() { appendRules(t, other, "name-a", "203.0.113.0/24") }},
		{"longer and another", func() { appendRules(t, other, "name-a", "203.0.113.1/32") }},
	} {
		tc.change()
		if err := st.followOnce(t.Context(), other, func() {}); !errors.Is(err, errLost) {
			t.Errorf("%s: %v, want errLost", tc.name, err)
		}
		if !allows(st.kernel, "a") {
			t.Fatalf("%s: the last good revision is not in force", tc.name)
		}
	}
	if n := st.told("policylog.lost"); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
	st.followLog(t)
	rev := st.appendTo(t, "name-a", "deny 192.0.2.0/24")
	eventually(t, "the restored log is followed", func() bool { return st.ledger.standing().revision == rev && !allows(st.kernel, "a") })
	if st.told("policylog.back") != 1 {
		t.Error("the return is not told")
	}
}

func TestALogThatIsWipedWhileItIsFollowedIsNoticed(t *testing.T) {
	defer func(d time.Duration) { shrinkEvery = d }(shrinkEvery)
	shrinkEvery = 50 * time.Millisecond
	st := newStation(t)
	put(t, st.registry, labelled("a", "block"))
	rev := st.appendTo(t, "name-a", "192.0.2.0/24")
	stop := st.followLog(t)
	defer stop()
	eventually(t, "the log is in force", func() bool { return st.ledger.standing().revision == rev })
	// A reader of another, empty log behind its end is as good as a wipe.
	_, other := testServer(t, filepath.Join(t.TempDir(), "nats"))
	ended := make(chan error, 1)
	go func() { ended <- st.followOn(t.Context(), other, policySet{}, rev) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-t.Context().Done():
		t.Fatal("nobody notices")
	}
}

func TestAMissingLogIsToldOnce(t *testing.T) {
	st := newStation(t)
	s, err := eventlog.StartServer(eventlog.ServerOptions{Dir: filepath.Join(t.TempDir(), "nats")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	o := s.Options()
	o.ReadOnly = true // makes no stream
	bare, err := eventlog.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	for range 5 {
		err := st.followOnce(t.Context(), bare, func() {})
		if !errors.Is(err, eventlog.ErrNotFound) {
			t.Errorf("%v, want ErrNotFound", err)
		}
	}
	stop := background(t, func(ctx context.Context) error { return st.follow(ctx, bare) })
	eventually(t, "the problem is listed", func() bool {
		return slices.ContainsFunc(st.problems.list(), func(p string) bool { return strings.HasPrefix(p, "policy log: ") })
	})
	stop()
	if n := st.told("policylog.unreadable"); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
}

func TestOperatorsModesComeFromTheLog(t *testing.T) {
	st := newStation(t)
	put(t, st.registry, labelled("a", "learn"))
	st.followLog(t)
	_, err := st.events.AppendPolicy(t.Context(), &schemas.PolicyEvent{
		TimeNs: 1, Actor: "ann", Policy: "name-a",
		Change: &schemas.PolicyEvent_ModeSet{ModeSet: &schemas.ModeSet{Workload: "name-a", Mode: schemas.Mode_MODE_BLOCK}},
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the mode is block", func() bool { s, _ := st.kernel.table("a"); return s.Mode == policy.ModeBlock })
}
