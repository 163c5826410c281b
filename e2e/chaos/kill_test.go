package chaos

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/learner"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// names of workloads: what a person calls things must not matter.
var names = []string{"shop/web", "a b.c", "*.x>", "100%", "größe-日本", `say "hi" 'there'`, "$(id);`id`", `..\-`}

// destinations are too far apart to share a rule; every second is rejected.
var destinations = []string{"192.0.2.7", "198.51.100.7", "203.0.113.7", "2001:db8::7"}

const (
	packs = 3 // of flows for each name
	// killsPerName makes a hundred of servers, learners and enforcers; on top
	// come some of the commands that decide.
	killsPerName = 13
)

// outcome is what is left when the script has ended.
type outcome struct {
	Rules, Modes map[string]string
	Open         []string
	Decided      []string
	evidence     []byte
}

// TestKillsChangeNothing runs a script of learning and approving twice, once
// with every process killed again and again, and compares what is left.
func TestKillsChangeNothing(t *testing.T) {
	testutil.Privileged(t)
	var quiet, killed outcome
	t.Run("undisturbed", func(t *testing.T) { quiet = script(t, newCrew(t), nil) })
	if len(quiet.Decided) != len(names)*len(destinations) || len(quiet.Modes) != len(names) {
		t.Fatalf("the undisturbed run ended with %+v", quiet)
	}
	t.Run("killed", func(t *testing.T) {
		killed = script(t, newCrew(t), &reaper{random: rand.New(rand.NewPCG(1, 2)), kills: map[string]int{}})
	})
	if d := cmp.Diff(quiet, killed, cmp.AllowUnexported(outcome{})); d != "" {
		t.Errorf("the undisturbed run (-) and the other (+) differ:\n%s", d)
	}
}

// reaper kills; nil does not.
type reaper struct {
	random *rand.Rand

	mu    sync.Mutex
	kills map[string]int
}

// killed counts a kill.
func (r *reaper) killed(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kills[name]++
}

// pause is a pause of random length.
func (r *reaper) pause(most time.Duration) time.Duration {
	return time.Millisecond + time.Duration(r.random.Int64N(int64(most)))
}

// reap kills a number of processes at random, then says so.
func (r *reaper) reap(all []*process) (done chan struct{}) {
	done = make(chan struct{})
	random := rand.New(rand.NewPCG(r.random.Uint64(), 1))
	go func() {
		defer close(done)
		for n := 0; n < killsPerName; {
			time.Sleep(time.Duration(random.Int64N(int64(200 * time.Millisecond))))
			if p := all[random.IntN(len(all))]; p.kill() {
				r.killed(p.name)
				n++
			}
		}
	}()
	return done
}

// script learns, approves, rejects and sets modes for one name after another.
func script(t *testing.T, c *crew, r *reaper) outcome {
	began := time.Now()
	w := c.log.FlowWriter("h1", "boot")
	defer w.Close()
	for i, name := range names {
		var done chan struct{}
		if r != nil {
			done = r.reap(c.all)
		}
		wanted := c.observe(t, w, i, name)
		testutil.Eventually(t, "the proposals for "+name, func() error {
			if d := cmp.Diff(wanted, open(c.fold(t), name)); d != "" {
				return fmt.Errorf("wanted (-) and open (+): %s", d)
			}
			return nil
		})
		for id, dst := range wanted {
			c.decide(t, r, id, rejected(dst))
		}
		c.until(t, r, "the mode of "+name, func(s *policy.State) bool { o, ok := s.Mode(name); return ok && o.Mode == policy.ModeBlock },
			"mode", name, "block", "--yes")
		if done != nil {
			<-done
		}
	}
	out := c.outcome(t)
	c.enforced(t)
	if r != nil {
		t.Logf("killed %v in %s", r.kills, time.Since(began).Round(time.Millisecond))
	} else {
		t.Logf("undisturbed in %s", time.Since(began).Round(time.Millisecond))
	}
	return out
}

func rejected(dst string) bool { return slices.Index(destinations, dst)%2 == 1 }

// observe writes what a workload does, and gives the proposals that must come
// of it, by ID with their destination.
func (c *crew) observe(t *testing.T, w *eventlog.FlowWriter, nth int, name string) map[string]string {
	t.Helper()
	model := learner.New(learner.Options{})
	for n := range packs {
		var flows []*schemas.Flow
		begin := uint64(nth*packs+n) * 100
		for k, dst := range destinations {
			flows = append(flows, &schemas.Flow{
				Id: schemas.FlowID("h1", "boot", begin+uint64(k)), TimeNs: noon.UnixNano(), Host: "h1", Verdict: schemas.Verdict_VERDICT_WOULD_DENY,
				Count: uint64(n + 1), Workload: name, Policy: name, Mode: schemas.Mode_MODE_LEARN, Proto: 6, DstPort: 443,
				DstIp: netip.MustParseAddr(dst).AsSlice(), Comm: "curl", ContainerId: "c1",
			})
		}
		if err := errors.Join(w.Write(t.Context(), flows, begin+100), w.Flush(t.Context())); err != nil {
			t.Fatal(err)
		}
		model.Flows(uint64(n+1), flows)
	}
	events, err := model.Plan(noon)
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[string]string{}
	for _, e := range events {
		p := e.GetProposalOpened().GetProposal()
		wanted[p.GetId()] = target(p)
	}
	return wanted
}

// target is the address of a proposal of one rule.
func target(p *schemas.Proposal) string {
	r, err := policy.FromWire(p.GetRules()[0].GetRule())
	if err != nil {
		return err.Error()
	}
	return r.Prefix.Addr().String()
}

func open(s *policy.State, name string) map[string]string {
	out := map[string]string{}
	for _, p := range s.Proposals(name, policy.StatusOpen) {
		out[p.ID] = target(p.Body)
	}
	return out
}

// fold reads the policy log; the server may be killed meanwhile.
func (c *crew) fold(t *testing.T) *policy.State {
	t.Helper()
	state := policy.NewState()
	testutil.Eventually(t, "the policy log is read", func() error {
		for e, err := range c.log.PolicyEvents(t.Context(), state.Revision()+1, false) {
			if err != nil {
				return err
			}
			state.Apply(e.Revision, e.Event)
		}
		return nil
	})
	return state
}

func (c *crew) decide(t *testing.T, r *reaper, id string, reject bool) {
	t.Helper()
	verb, want := "approve", policy.StatusApproved
	if reject {
		verb, want = "reject", policy.StatusRejected
	}
	c.until(t, r, verb+" "+id, func(s *policy.State) bool {
		p, ok := s.Proposal(id)
		if !ok || p.Status != want && p.Status != policy.StatusOpen {
			t.Fatalf("proposal %s is %q, want %s", id, p.Status, want)
		}
		return p.Status == want
	}, "proposals", verb, id)
}

// until runs an egw as a person does, again and again until the log has what
// it was to do. The first is killed.
func (c *crew) until(t *testing.T, r *reaper, what string, done func(*policy.State) bool, args ...string) {
	t.Helper()
	if r != nil {
		if _, killed := c.run(t, r.pause(100*time.Millisecond), args...); killed {
			r.killed("egw")
		}
	}
	testutil.Eventually(t, what, func() error {
		if done(c.fold(t)) {
			return nil
		}
		out, _ := c.run(t, 0, args...)
		if done(c.fold(t)) {
			return nil
		}
		return errors.New(out)
	})
}

// outcome waits until the learner's evidence is what the flows say.
func (c *crew) outcome(t *testing.T) outcome {
	t.Helper()
	model := learner.New(learner.Options{})
	var end eventlog.End
	testutil.Eventually(t, "the flows are read", func() (err error) {
		for e, err := range c.log.FlowEntries(t.Context(), model.Covered()+1, false) {
			if err != nil {
				return err
			}
			model.Flows(e.Sequence, e.Flows)
		}
		end, err = c.log.FlowEnd(t.Context())
		return err
	})
	evidence, err := model.Encode()
	if err != nil {
		t.Fatal(err)
	}
	model.Stream(end.Made)
	want, err := model.Encode()
	if err != nil {
		t.Fatal(err)
	}
	out := outcome{Rules: map[string]string{}, Modes: map[string]string{}, evidence: evidence}
	testutil.Eventually(t, "the evidence of all flows", func() error {
		got, err := os.ReadFile(filepath.Join(c.dir, "evidence"))
		if err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("it has %d bytes, want %d", len(got), len(want))
		}
		return err
	})
	s := c.fold(t)
	for _, name := range s.Policies() {
		for _, rule := range s.Policy(name).Rules {
			out.Rules[name] += fmt.Sprintln(rule.ID, rule, rule.Origin)
		}
		if o, ok := s.Mode(name); ok {
			out.Modes[name] = o.Mode.String()
		}
		out.Open = append(out.Open, slices.Sorted(maps.Keys(open(s, name)))...)
		for _, status := range []policy.Status{policy.StatusApproved, policy.StatusRejected} {
			for _, p := range s.Proposals(name, status) {
				out.Decided = append(out.Decided, fmt.Sprintf("%s %s %s %s %q", name, p.ID, p.Status, p.Body.GetEvidence(), p.Decided))
			}
		}
	}
	slices.Sort(out.Decided)
	return out
}

// enforced waits until the enforcer judges by the log.
func (c *crew) enforced(t *testing.T) {
	t.Helper()
	end := c.fold(t).Revision()
	testutil.Eventually(t, "the enforcer is at the end of the log", func() error {
		var s enforcer.Status
		if err := c.ask(t, enforcer.AskStatus, struct{}{}, &s); err != nil {
			return err
		}
		if s.Revision != end || !s.Enforcing {
			return fmt.Errorf("at revision %d of %d, enforcing %v", s.Revision, end, s.Enforcing)
		}
		return nil
	})
	for _, name := range names {
		for _, dst := range destinations {
			want := "allow"
			if rejected(dst) {
				want = "deny"
			}
			if got := c.explain(t, name, dst); got.Verdict != want {
				t.Errorf("%s to %s: %+v, want %s", name, dst, got, want)
			}
		}
	}
}

func (c *crew) explain(t *testing.T, name, dst string) (why enforcer.Explanation) {
	t.Helper()
	testutil.Eventually(t, "an explanation", func() error {
		return c.ask(t, enforcer.AskExplain, enforcer.ExplainRequest{
			Workload: name, Dst: netip.MustParseAddr(dst), Proto: policy.ProtoTCP, Port: 443}, &why)
	})
	return why
}

func (c *crew) ask(t *testing.T, name string, question, answer any) error {
	t.Helper()
	text, err := json.Marshal(question)
	if err != nil {
		return err
	}
	data, err := c.log.Ask(t.Context(), "h1", name, text)
	if err != nil {
		return err
	}
	return enforcer.DecodeAnswer(data, answer)
}
