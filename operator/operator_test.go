package operator

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

const testDeadline = 3 * time.Minute

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func testLog(t testing.TB) (*eventlog.Log, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	t.Cleanup(cancel)
	s, err := eventlog.StartServer(eventlog.ServerOptions{Dir: filepath.Join(t.TempDir(), "nats")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	l, err := eventlog.Connect(ctx, s.Options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l, ctx
}

func open(t testing.TB, l *eventlog.Log, ctx context.Context, actor string) *Desk {
	t.Helper()
	d, err := Open(ctx, l, actor, func() time.Time { return start })
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func rule(t testing.TB, line string) policy.Rule {
	t.Helper()
	r, err := policy.ParseRule(line)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// must makes a change, or fails.
func must(t testing.TB, ctx context.Context, d *Desk) func(*Draft, error) Done {
	return func(c *Draft, err error) Done {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		done, err := d.Append(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
}

// propose appends a proposal as the learner does.
func propose(t testing.TB, l *eventlog.Log, ctx context.Context, name, id, evidence, text string, expected uint64) uint64 {
	t.Helper()
	rev, err := l.AppendPolicy(ctx, &schemas.PolicyEvent{Policy: name, Actor: "learner", Change: &schemas.PolicyEvent_ProposalOpened{
		ProposalOpened: &schemas.ProposalOpened{Proposal: &schemas.Proposal{Id: id, Action: "add", Evidence: evidence,
			Rules: []*schemas.ProposedRule{{Rule: &schemas.Rule{Text: text}}}}}}}, expected)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func TestOfTwoOperatorsOneWinsAndTheOtherIsTold(t *testing.T) {
	l, ctx := testLog(t)
	alice, bob := open(t, l, ctx, "alice"), open(t, l, ctx, "bob via sudo")
	first, err := alice.Add("w", rule(t, "192.0.2.1"), "mine")
	if err != nil {
		t.Fatal(err)
	}
	second, err := bob.Add("w", rule(t, "192.0.2.2"), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Append(ctx, first); err != nil {
		t.Fatal(err)
	}
	_, err = bob.Append(ctx, second)
	var stale *StaleError
	if !errors.As(err, &stale) || !errors.Is(err, eventlog.ErrStale) {
		t.Fatalf("the second append: %v, want a StaleError", err)
	}
	for _, want := range []string{"policy w has changed since revision 0", "alice: add 192.0.2.1/32", "(mine)"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not tell %q", err, want)
		}
	}
	if n := len(bob.State().Policy("w").Rules); n != 1 {
		t.Errorf("%d rules after the refusal, want 1", n)
	}
	must(t, ctx, bob)(bob.Add("w", rule(t, "192.0.2.2"), ""))
}

func TestManyOperatorsAtOnceLoseNothing(t *testing.T) {
	l, ctx := testLog(t)
	const people, each = 4, 5
	var group sync.WaitGroup
	for p := range people {
		group.Go(func() {
			d, err := Open(ctx, l, fmt.Sprint("p", p), time.Now)
			for i := 0; err == nil && i < each; {
				var c *Draft
				if c, err = d.Add("w", rule(t, fmt.Sprintf("192.0.%d.%d", p, i)), ""); err != nil {
					break
				}
				_, err = d.Append(ctx, c)
				if err == nil {
					i++
				} else if errors.Is(err, eventlog.ErrStale) {
					err = d.Refresh(ctx)
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	d := open(t, l, ctx, "reader")
	if n := len(d.State().Policy("w").Rules); n != people*each || len(d.State().Refusals()) != 0 {
		t.Errorf("%d rules and %v refusals, want %d and none", n, d.State().Refusals(), people*each)
	}
}

func TestWhatTheLearnerAppendsMeanwhileIsGivenWayTo(t *testing.T) {
	l, ctx := testLog(t)
	d := open(t, l, ctx, "alice")
	c, err := d.Add("w", rule(t, "192.0.2.1"), "")
	if err != nil {
		t.Fatal(err)
	}
	last := propose(t, l, ctx, "w", "p1", "e", "192.0.2.9", 0)
	last = propose(t, l, ctx, "w", "p2", "e", "192.0.2.8", last)
	done, err := d.Append(ctx, c)
	if err != nil || done.Revision != last+1 {
		t.Fatalf("revision %d, %v; want %d", done.Revision, err, last+1)
	}
}

func TestApprovalIsBoundToWhatWasShown(t *testing.T) {
	l, ctx := testLog(t)
	last := propose(t, l, ctx, "w", "p1", "e1", "192.0.2.9 tcp/443", 0)
	last = propose(t, l, ctx, "w", "p2", "e2", "192.0.2.8 tcp/443", last)
	alice, bob := open(t, l, ctx, "alice"), open(t, l, ctx, "bob")
	shown, err := alice.OpenProposal("p1")
	if err != nil {
		t.Fatal(err)
	}
	must(t, ctx, bob)(bob.Add("w", rule(t, "203.0.113.7"), ""))
	if err := alice.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Approve(shown, nil, ""); !errors.Is(err, eventlog.ErrStale) {
		t.Fatalf("approval of what was shown before the change: %v, want ErrStale", err)
	}
	if shown, err = alice.OpenProposal("p1"); err != nil {
		t.Fatal(err)
	}
	done := must(t, ctx, alice)(alice.Approve(shown, nil, "seen"))
	if len(done.Changes) != 1 || done.Changes[0].Rule.String() != "192.0.2.9/32 tcp/443" || done.Revision <= last {
		t.Errorf("the approval did %+v", done)
	}
	if _, err := alice.OpenProposal("p1"); !errors.Is(err, ErrRefused) {
		t.Errorf("an approved proposal is open: %v", err)
	}
	t.Run("and to the policy of everyone", func(t *testing.T) {
		shown, err := alice.OpenProposal("p2")
		if err != nil {
			t.Fatal(err)
		}
		must(t, ctx, bob)(bob.Add(policy.Everyone, rule(t, "deny 192.0.2.0/24"), ""))
		if err := alice.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := alice.Approve(shown, nil, ""); !errors.Is(err, eventlog.ErrStale) {
			t.Errorf("approval after a deny for everyone: %v, want ErrStale", err)
		}
	})
}

func TestOfTwoApprovalsAtOnceOneIsRefused(t *testing.T) {
	l, ctx := testLog(t)
	propose(t, l, ctx, "w", "p1", "e1", "192.0.2.9", 0)
	var drafts []*Draft
	desks := []*Desk{open(t, l, ctx, "alice"), open(t, l, ctx, "bob")}
	for _, d := range desks {
		p, err := d.OpenProposal("p1")
		if err != nil {
			t.Fatal(err)
		}
		c, err := d.Approve(p, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		drafts = append(drafts, c)
	}
	if _, err := desks[0].Append(ctx, drafts[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := desks[1].Append(ctx, drafts[1]); !errors.Is(err, eventlog.ErrStale) || !strings.Contains(err.Error(), "alice: approve p1") {
		t.Errorf("the second approval: %v", err)
	}
}

func TestSuccessorFollowsSupersededProposals(t *testing.T) {
	l, ctx := testLog(t)
	last := propose(t, l, ctx, "w", "p1", "e1", "192.0.2.9", 0)
	last = propose(t, l, ctx, "w", "p2", "e2", "192.0.2.8/31", last)
	_, err := l.AppendPolicy(ctx, &schemas.PolicyEvent{Policy: "w", Change: &schemas.PolicyEvent_ProposalSuperseded{
		ProposalSuperseded: &schemas.ProposalSuperseded{Id: "p1", By: "p2"}}}, last)
	if err != nil {
		t.Fatal(err)
	}
	d := open(t, l, ctx, "alice")
	if p, ok := d.Successor("p1"); !ok || p.ID != "p2" {
		t.Errorf("successor of p1: %s, %v; want p2", p.ID, ok)
	}
	if _, err := d.OpenProposal("p1"); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "superseded by p2") {
		t.Errorf("approval of p1: %v", err)
	}
	if _, ok := d.Successor("none"); ok {
		t.Error("an unknown proposal has a successor")
	}
}

func TestWhatIsSoAlreadyIsUnchanged(t *testing.T) {
	l, ctx := testLog(t)
	d := open(t, l, ctx, "alice")
	r := rule(t, "192.0.2.1 tcp/443 # why")
	r.Owner = "ops"
	must(t, ctx, d)(d.Add("w", r, ""))
	must(t, ctx, d)(d.SetMode("w", policy.ModeBlock, ""))
	for name, draft := range map[string]func() (*Draft, error){
		"the same rule":             func() (*Draft, error) { return d.Add("w", r, "") },
		"without comment and owner": func() (*Draft, error) { return d.Add("w", rule(t, "192.0.2.1 tcp/443"), "") },
		"the same mode":             func() (*Draft, error) { return d.SetMode("w", policy.ModeBlock, "") },
		"no override":               func() (*Draft, error) { return d.SetMode("v", policy.ModeUnknown, "") },
		"the same list": func() (*Draft, error) {
			return d.Import("w", "f", "", []policy.Rule{rule(t, "192.0.2.1 tcp/443 # why")}, "")
		},
	} {
		if _, err := draft(); !errors.Is(err, ErrUnchanged) {
			t.Errorf("%s: %v, want ErrUnchanged", name, err)
		}
	}
	timed := rule(t, "192.0.2.1 tcp/443")
	timed.Expires = d.Until(time.Hour)
	done := must(t, ctx, d)(d.Add("w", timed, ""))
	got := done.Changes[0]
	if got.Op != "replace" || got.Rule.Owner != "ops" || got.Rule.Comment != "why" || !got.Rule.Expires.Equal(start.Add(time.Hour)) {
		t.Errorf("giving a rule an end did %+v", got)
	}
}

func TestReplaySeesWhatTheCandidateWouldDo(t *testing.T) {
	l, ctx := testLog(t)
	w := l.FlowWriter("h", "b")
	defer w.Close()
	flows := []*schemas.Flow{
		{Id: schemas.FlowID("h", "b", 0), TimeNs: start.Add(-8 * 24 * time.Hour).UnixNano(), Workload: "w", Policy: "w", Count: 100, Proto: 6, DstPort: 443, DstIp: []byte{192, 0, 2, 1}, Verdict: 3, Mode: 2},
		{Id: schemas.FlowID("h", "b", 1), TimeNs: start.Add(-time.Hour).UnixNano(), Workload: "w", Policy: "w", Count: 3, Proto: 6, DstPort: 443, DstIp: []byte{192, 0, 2, 1}, Verdict: 3, Mode: 2, Comm: "curl"},
		{Id: schemas.FlowID("h", "b", 2), TimeNs: start.Add(-time.Hour).UnixNano(), Workload: "w", Policy: "w", Count: 5, Proto: 6, DstPort: 80, DstIp: []byte{192, 0, 2, 2}, Verdict: 3, Mode: 2, Comm: "sh"},
		{Id: schemas.FlowID("h", "b", 3), TimeNs: start.Add(-time.Hour).UnixNano(), Workload: "w", Policy: "w", Count: 7, Verdict: 3, Mode: 2, Reason: schemas.ReasonOverflow},
		{Id: schemas.FlowID("h", "b", 4), TimeNs: start.Add(-time.Hour).UnixNano(), Workload: "v", Policy: "v", Count: 9, Proto: 6, DstPort: 80, DstIp: []byte{192, 0, 2, 2}, Verdict: 3, Mode: 2},
	}
	if err := w.Write(ctx, flows, 5); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.PublishHost(ctx, &schemas.HostEvent{Host: "h", TimeNs: start.UnixNano(), Kind: schemas.KindOutboxFull, Count: 11}); err != nil {
		t.Fatal(err)
	}
	d := open(t, l, ctx, "alice")
	must(t, ctx, d)(d.Add("w", rule(t, "192.0.2.1 tcp/443"), ""))
	r, err := d.Replay(ctx, Replay{Workload: "w", Since: start.Add(-7 * 24 * time.Hour), Candidate: policy.Candidate{Mode: policy.ModeBlock}})
	if err != nil {
		t.Fatal(err)
	}
	got := []uint64{r.Decisions, r.Denied, r.Allowed, r.Unattributed, r.Lost, r.Revision}
	if diff := cmp.Diff([]uint64{15, 5, 3, 7, 11, 1}, got); diff != "" {
		t.Errorf("decisions, denied, allowed, unattributed, lost, revision: -want +got:\n%s", diff)
	}
	if len(r.NewlyDenied) != 1 || r.NewlyDenied[0].Processes[0] != "sh" {
		t.Errorf("newly denied: %+v", r.NewlyDenied)
	}
}

func TestActorIsTheUserBehindSudo(t *testing.T) {
	names := func(uid int) string { return map[int]string{0: "root", 1000: "alice"}[uid] }
	for _, test := range []struct {
		euid int
		sudo string
		want string
	}{
		{1000, "", "alice"}, {0, "", "root"}, {0, "alice", "alice via sudo"}, {0, "root", "root"},
		{1000, "mallory", "alice"}, {4242, "", "uid 4242"},
	} {
		if got := actorName(test.euid, test.sudo, names); got != test.want {
			t.Errorf("euid %d, SUDO_USER %q: %q, want %q", test.euid, test.sudo, got, test.want)
		}
	}
}

func TestNamesAreChecked(t *testing.T) {
	for name, ok := range map[string]bool{"shop/web": true, "*": true, "a b.>ü": true, "": false, "a\nb": false, "\xff": false, strings.Repeat("x", 201): false} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("name %q: %v", name, err)
		}
	}
}
