package enforcer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/cgroup"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// connect is a client of the host's event log, which this test stops.
func (h *host) connect(t *testing.T) *eventlog.Log {
	t.Helper()
	l, err := eventlog.Connect(t.Context(), eventlog.Options{URL: h.cfg.NATS.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// allowed asks the kernel about a destination on port 443.
func (h *host) allowed(t *testing.T, index uint32, dst netip.Addr) bool {
	t.Helper()
	d, err := h.gate.Judge(index, dst, policy.ProtoTCP, 443)
	if err != nil {
		t.Fatal(err)
	}
	return d.Verdict == policy.VerdictAllow
}

// TestATimedRuleEndsWhileNATSIsAway holds that the end of a rule in the kernel
// needs no event log, and does not come early.
func TestATimedRuleEndsWhileNATSIsAway(t *testing.T) {
	h := startHost(t, cgroup.New(t), func(*Config) {})
	server := h.startServer(t)
	t.Cleanup(func() { _ = server.Close() })
	_, index := h.container(t, "timed", "block")
	eventually(t, "the pump runs", func() bool { return h.events.Load() != nil })
	log := h.connect(t)
	keep := netip.MustParseAddr("198.51.100.1")
	appendRules(t, log, "timed", "198.51.100.1")
	eventually(t, "the rule without an end is in force", func() bool { return h.allowed(t, index, keep) })

	// On a slow machine a rule may end before it is seen in force: then the
	// next one lives longer.
	var end time.Time
	for life := 4 * time.Second; ; life *= 4 {
		if life > 5*testutil.Long {
			t.Fatal("no timed rule comes into force in time")
		}
		end = time.Now().Add(life)
		appendTimed(t, log, "timed", end)
		for !h.allowed(t, index, inside) && time.Now().Before(end) {
			time.Sleep(10 * time.Millisecond)
		}
		if h.allowed(t, index, inside) {
			break
		}
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the timed rule ended", func() bool { return !h.allowed(t, index, inside) })
	if now := time.Now(); now.Before(end) {
		t.Errorf("the rule ended %s early", end.Sub(now))
	} else {
		t.Logf("the rule ended at most %s late, without NATS", now.Sub(end))
	}
	if !h.allowed(t, index, keep) {
		t.Error("a rule without an end ended with it")
	}
}

func appendTimed(t *testing.T, l *eventlog.Log, name string, end time.Time) {
	t.Helper()
	timed := rules(t, "192.0.2.0/24")
	timed[0].Expires = end
	_, err := l.AppendPolicy(t.Context(), &schemas.PolicyEvent{
		TimeNs: time.Now().UnixNano(), Actor: "ann", Policy: name,
		Change: &schemas.PolicyEvent_RuleAdded{RuleAdded: &schemas.RuleAdded{Rules: policy.WireRules(timed)}},
	}, foldAll(t, l).LastSequence(name))
	if err != nil {
		t.Fatal(err)
	}
}

// TestAClockThatJumpsOpensNothing sets the clock ahead and back.
func TestAClockThatJumpsOpensNothing(t *testing.T) {
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	put(t, r, labelled("a", "block"))
	now := time.Now()
	timed := rules(t, "192.0.2.0/24")
	timed[0].Expires = now.Add(time.Hour)
	setPolicies(t, r, policySet{Rules: map[string][]policy.Rule{"name-a": append(timed, rules(t, "deny 192.0.2.128/25")...)}})
	denied := netip.MustParseAddr("192.0.2.200")
	for _, step := range []struct {
		name string
		now  time.Time
		want bool
	}{
		{"as it is", now, true},
		{"a year back", now.AddDate(-1, 0, 0), true},
		{"the epoch", time.Unix(0, 0), true},
		{"a year ahead", now.AddDate(1, 0, 0), false},
		{"as far as a time in the log goes", time.Unix(0, 1<<63-1), false},
		{"set right again", now, true},
		{"the moment of the end", timed[0].Expires, false},
	} {
		if _, err := r.refresh(step.now); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := allows(k, "a"); got != step.want {
			t.Errorf("%s: allowed %v, want %v", step.name, got, step.want)
		}
		if _, table := k.table("a"); table.Match(denied, policy.ProtoTCP, 443).Action == policy.ActionAllow {
			t.Errorf("%s: what a rule without an end denies is allowed", step.name)
		}
		if r.expired(step.now) {
			t.Errorf("%s: a rule in force should have ended", step.name)
		}
	}
}
