package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	daemon "github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/docker"
	"github.com/egresswarden/egresswarden/internal/testutil/probe"
	"github.com/egresswarden/egresswarden/operator"
	"github.com/egresswarden/egresswarden/policy"
)

// What the learning container talks to. The approved are what its owner knows.
var (
	loopApproved = []string{
		"192.0.2.1:443", "192.0.2.2:443", "192.0.2.3:443", "192.0.2.4:443",
		"198.51.100.7:8080", "192.168.7.7:8443", "[2001:db8::5]:443",
	}
	loopRest = []string{
		"192.0.2.77:443", "198.51.100.9:80", "203.0.113.9:80", "169.254.169.254:80", "8.8.8.8:853", "[2001:db8::99]:443",
	}
	loopLater = "203.0.113.80:8443"
)

const loopWorkload = "shop/loop"

// TestLoop goes the way of a new user, from learn to block, with the programs
// as built and nothing else.
func TestLoop(t *testing.T) {
	u := newUp(t)
	c := u.docker.Run(t, docker.Spec{
		Name: "loop", Network: "dual", Cmd: []string{"stay"},
		Labels: map[string]string{"egress": "learn", "egress.policy": loopWorkload},
	})
	pid := c.Pid(t)
	u.covered(t, c.Name)
	dialAll(t, c, "in learn mode", slices.Concat(loopApproved, loopRest), true)

	open := u.proposalsFor(t, slices.Concat(loopApproved, loopRest))
	before := u.revision(t)
	u.review(t, open)
	u.replayed(t)

	out := u.egw(t, "", "mode", loopWorkload, "block", "--yes", "--reason", "learned enough")
	if !strings.Contains(out, "mode of "+loopWorkload+": its label to block") {
		t.Errorf("egw mode says:\n%s", out)
	}
	testutil.Eventually(t, "block is in force", func() error {
		if r := dial(t, c, loopRest[0]); !r.Denied() {
			return errors.New(r.String())
		}
		return nil
	})
	never := u.world.Capture(t, addresses(slices.Concat(loopRest, []string{loopLater}))...)
	dialAll(t, c, "approved and blocked", loopApproved, true)
	dialAll(t, c, "not approved and blocked", slices.Concat(loopRest, []string{loopLater}), false)
	for k, n := range never.Seen(t) {
		t.Errorf("%d packets of a blocked container arrived, %s", n, k)
	}

	u.later(t, c)
	u.latency(t)
	history := u.egw(t, "", "policy", "history", loopWorkload)
	for _, want := range []string{"learner", "propose ", "approve ", "mode of " + loopWorkload + " to block", "learned enough", "the shop wants it"} {
		if !strings.Contains(history, want) {
			t.Errorf("the history does not tell %q:\n%s", want, history)
		}
	}
	u.egw(t, "", "policy", "rollback", loopWorkload, fmt.Sprint(before), "--yes", "--reason", "all back")
	testutil.Eventually(t, "the container learns again", func() error {
		if r := dial(t, c, loopRest[0]); !r.OK {
			return errors.New(r.String())
		}
		return nil
	})
	if show := u.egw(t, "", "policy", "show", loopWorkload); !strings.Contains(show, "mode label, 0 rules") {
		t.Errorf("after the rollback:\n%s", show)
	}
	if c.Pid(t) != pid {
		t.Error("the container was restarted")
	}
	u.stop(t)
}

// proposalsFor waits until each destination is proposed once, and gives the
// open proposals in their order. Where one is in two proposals the learner is
// about to supersede one of them.
func (u *up) proposalsFor(t *testing.T, to []string) []loopProposal {
	t.Helper()
	began := time.Now()
	var open []loopProposal
	testutil.Eventually(t, "every destination is proposed", func() error {
		open = nil
		text := u.egw(t, "", "proposals", "ls", "--policy", loopWorkload, "-o", "json")
		if err := json.Unmarshal([]byte(text), &open); err != nil {
			return err
		}
		for _, d := range to {
			n := 0
			for _, p := range open {
				if p.has(t, d) {
					n++
				}
			}
			if n != 1 {
				return fmt.Errorf("%s is in %d proposals", d, n)
			}
		}
		return nil
	})
	t.Logf("proposed %d destinations in %.1f s", len(to), time.Since(began).Seconds())
	return open
}

type loopProposal struct {
	ID    string
	Rules []struct{ Text string }
}

// has tells whether the proposal admits a destination.
func (p loopProposal) has(t *testing.T, to string) bool {
	t.Helper()
	dst := addrPort(t, to)
	for _, r := range p.Rules {
		rule, err := policy.ParseRule(r.Text)
		if err != nil {
			t.Fatal(err)
		}
		if policy.JudgeRules([]policy.Rule{rule}, dst.Addr(), policy.ProtoTCP, dst.Port(), time.Now()).Action == policy.ActionAllow {
			return true
		}
	}
	return false
}

// review approves what is to be approved and skips the rest.
func (u *up) review(t *testing.T, open []loopProposal) {
	t.Helper()
	answers, n := "", 0
	for _, p := range open {
		if slices.ContainsFunc(loopApproved, func(d string) bool { return p.has(t, d) }) {
			answers, n = answers+"y\n", n+1
		} else {
			answers += "s\n"
		}
	}
	out := u.egw(t, answers, "review", "--policy", loopWorkload, "--reason", "known to the shop")
	if want := fmt.Sprintf("%d approved, %d skipped;", n, len(open)-n); !strings.Contains(out, want) {
		t.Fatalf("the review ended otherwise than %q:\n%s", want, out)
	}
}

// replayed holds that the replay names what block would deny, and no more.
func (u *up) replayed(t *testing.T) {
	t.Helper()
	var r struct {
		Groups []struct {
			Dst  string `json:"dst_ip"`
			Port uint16 `json:"dst_port"`
		} `json:"denied_groups"`
	}
	text := u.egw(t, "", "replay", "--workload", loopWorkload, "--mode", "block", "-o", "json")
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, g := range r.Groups {
		got = append(got, fmt.Sprint(g.Dst, " ", g.Port))
	}
	for _, d := range loopRest {
		a := addrPort(t, d)
		want = append(want, fmt.Sprint(a.Addr(), " ", a.Port()))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the replay denies\n%q, want\n%q", got, want)
	}
}

// later approves a wish from its denial.
func (u *up) later(t *testing.T, c *docker.Container) {
	t.Helper()
	open := u.proposalsFor(t, []string{loopLater})
	i := slices.IndexFunc(open, func(p loopProposal) bool { return p.has(t, loopLater) })
	out := u.egw(t, "", "proposals", "approve", open[i].ID, "--reason", "the shop wants it")
	began := time.Now()
	if !strings.Contains(out, "would have been") || !strings.Contains(out, "is at revision") {
		t.Errorf("egw proposals approve says:\n%s", out)
	}
	testutil.Eventually(t, "what was approved passes", func() error {
		if r := dial(t, c, loopLater); !r.OK {
			return errors.New(r.String())
		}
		return nil
	})
	t.Logf("passes %d ms after egw proposals approve ended, the start of a process in the container included", time.Since(began).Milliseconds())
}

// latency tells how long changes take until the kernel judges by them. It is
// information: nothing is asserted of it.
func (u *up) latency(t *testing.T) {
	t.Helper()
	const n = 100
	l := u.events(t)
	d, err := operator.Open(t.Context(), l, "e2e", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for i := range n {
		r, err := policy.ParseRule(fmt.Sprintf("198.18.0.%d tcp/443", i))
		if err != nil {
			t.Fatal(err)
		}
		draft, err := d.Add(loopWorkload, r, "")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := d.Append(t.Context(), draft); err != nil {
			t.Fatal(err)
		}
		u.judged(t, l, daemon.ExplainRequest{Workload: loopWorkload, Dst: r.Prefix.Addr(), Proto: policy.ProtoTCP, Port: 443})
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("append to live in the kernel, append and question included, %d changes: p50 %.1f ms, p99 %.1f ms",
		n, took[n/2].Seconds()*1e3, took[n*99/100].Seconds()*1e3)
}

// judged asks until the kernel allows.
func (u *up) judged(t *testing.T, l *eventlog.Log, q daemon.ExplainRequest) {
	t.Helper()
	question, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, "the kernel allows "+q.Dst.String(), func() error {
		for range 100 { // without a pause, for the sake of the measurement
			data, err := l.Ask(t.Context(), loopHost, daemon.AskExplain, question)
			if err != nil {
				return err
			}
			var x daemon.Explanation
			if err := daemon.DecodeAnswer(data, &x); err != nil {
				return err
			}
			if x.Judged == "kernel" && x.Verdict == "allow" {
				return nil
			}
		}
		return errors.New("it does not")
	})
}

// dialAll makes an attempt at each address, and judges it.
func dialAll(t *testing.T, c *docker.Container, when string, to []string, allowed bool) {
	t.Helper()
	for _, r := range c.Exec(t, "dial", "-to", strings.Join(to, ",")) {
		if allowed != r.OK || !allowed && !r.Denied() {
			t.Errorf("%s: %s", when, r)
		}
	}
}

func dial(t *testing.T, c *docker.Container, to string) probe.Result {
	t.Helper()
	all := c.Exec(t, "dial", "-to", to)
	if len(all) != 1 {
		t.Fatalf("%d results of one attempt", len(all))
	}
	return all[0]
}
