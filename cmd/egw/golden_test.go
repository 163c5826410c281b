package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/operator"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

var update = flag.Bool("update", false, "write the golden files anew")

// today is the golden files'.
var today = time.Date(2026, 3, 8, 12, 0, 0, 0, time.UTC)

// cli runs commands in this process.
type cli struct {
	t     testing.TB
	url   string
	stdin io.Reader
}

// run gives the exit code and both outputs.
func (c cli) run(args ...string) (int, string, string) {
	c.t.Helper()
	var out, errs bytes.Buffer
	a := &app{stdin: c.stdin, stdout: &out, stderr: &errs, now: func() time.Time { return today },
		env: func(name string) string {
			if name == "EGW_NATS" {
				return c.url
			}
			return ""
		}}
	code := a.run(args)
	return code, out.String(), errs.String()
}

func (c cli) ok(args ...string) string {
	c.t.Helper()
	code, out, errs := c.run(args...)
	if code != exitOK {
		c.t.Fatalf("egw %s: exit code %d: %s", strings.Join(args, " "), code, errs)
	}
	return out
}

// weekOfTraffic records what a workload did, and what happened since.
func weekOfTraffic(t *testing.T, l *eventlog.Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w := l.FlowWriter("web-1", "boot")
	defer w.Close()
	n := uint64(0)
	flow := func(ago time.Duration, comm, reason string, count uint64, port uint32, ip ...byte) {
		f := &schemas.Flow{Id: schemas.FlowID("web-1", "boot", n), TimeNs: today.Add(-ago).UnixNano(), Host: "web-1", Workload: "shop/web",
			Policy: "shop/web", Container: "shop-web-1", ContainerId: "c1", Mode: schemas.Mode_MODE_LEARN, Verdict: schemas.Verdict_VERDICT_WOULD_DENY,
			Proto: 6, DstPort: port, DstIp: ip, Comm: comm, Count: count, Reason: reason}
		n++
		check(w.Write(ctx, []*schemas.Flow{f}, n))
	}
	for i := range byte(10) {
		flow(50*time.Hour, "curl", "", 3, 443, 192, 0, 2, i)
		flow(3*time.Hour, "wget\x1b[2J", "", 2, 443, 192, 0, 2, i)
	}
	flow(30*time.Hour, "psql", "", 40, 5432, 10, 0, 0, 5)
	flow(30*time.Hour, "sh", "", 1, 80, 169, 254, 169, 254)
	flow(20*time.Minute, "dig", "", 2, 53, 203, 0, 113, 53)
	flow(2*time.Hour, "", schemas.ReasonOverflow, 7, 0)
	check(w.Flush(ctx))
	check(l.PublishHost(ctx, &schemas.HostEvent{TimeNs: today.Add(-time.Hour).UnixNano(), Host: "web-1", Kind: schemas.KindOutboxFull, Count: 12}))
	learned(t, l)
	at := today.Add(-time.Hour)
	d, err := operator.Open(ctx, l, "alice via sudo", func() time.Time { return at })
	check(err)
	do := func(c *operator.Draft, err error) {
		t.Helper()
		check(err)
		_, err = d.Append(ctx, c)
		check(err)
	}
	for _, p := range d.State().Proposals("", policy.StatusOpen) {
		if strings.HasPrefix(firstRule(p.Body), "10.") {
			shown, err := d.OpenProposal(p.ID)
			check(err)
			do(d.Approve(shown, nil, "the shop's database"))
		}
	}
	r, err := policy.ParseRule("198.51.100.0/24 tcp/443 # partner")
	check(err)
	r.Owner, r.Expires = "ops", today.Add(48*time.Hour)
	do(d.Add("shop/web", r, "trial"))
	r, err = policy.ParseRule("deny 169.254.169.254")
	check(err)
	do(d.Add(policy.Everyone, r, "never"))
	do(d.SetMode("shop/web", policy.ModeBlock, ""))
}

// learned appends proposals such as the learner makes.
func learned(t *testing.T, l *eventlog.Log) {
	t.Helper()
	proposed := func(id, text, comm string, admitted, seen, count uint64, flags ...string) *schemas.Proposal {
		return &schemas.Proposal{Id: id, Action: "add", Evidence: "e" + id, Title: "allow " + text + ": denied by " + comm, Workload: "shop/web",
			Rules: []*schemas.ProposedRule{{Rule: &schemas.Rule{Text: text}, AddressesAdmitted: admitted, AddressesSeen: seen, Count: count,
				Denied: count / 2, FirstSeenNs: today.Add(-50 * time.Hour).UnixNano(), LastSeenNs: today.Add(-3 * time.Hour).UnixNano(),
				Processes: []string{comm}, Hosts: []string{"web-1"}, Flags: flags,
				Destinations: []string{"tcp://192.0.2.0:443", "tcp://192.0.2.1:443"}}}}
	}
	events := []*schemas.Proposal{
		proposed("5f0987b134", "192.0.2.0/28 tcp/443", "wget\x1b[2J", 16, 10, 50),
		proposed("11fc7ac380", "10.0.0.5/32 tcp/5432", "psql", 1, 1, 40, "private"),
		proposed("ce2227e175", "2001:db8:1::/64 udp/53", "dig", 1<<63, 3, 2, "recent", "resolver"),
		{Id: "d10af74e8b", Action: "remove", Evidence: "e", Title: "remove 203.0.113.0/24: not used since 2026-01-02",
			Rules: []*schemas.ProposedRule{{Rule: &schemas.Rule{Text: "203.0.113.0/24"}, LastSeenNs: today.Add(-1500 * time.Hour).UnixNano()}}},
	}
	last := uint64(0)
	for _, p := range events {
		var err error
		last, err = l.AppendPolicy(t.Context(), &schemas.PolicyEvent{Policy: "shop/web", Actor: "learner", TimeNs: today.Add(-2 * time.Hour).UnixNano(),
			Change: &schemas.PolicyEvent_ProposalOpened{ProposalOpened: &schemas.ProposalOpened{Proposal: p}}}, last)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestOutputsAreGolden(t *testing.T) {
	url, l := server(t)
	weekOfTraffic(t, l)
	c := cli{t: t, url: url}
	for name, args := range map[string]string{
		"policy-ls": "policy ls", "policy-show": "policy show shop/web", "policy-history": "policy history",
		"policy-diff": "policy diff --from 4", "proposals-ls": "proposals ls", "replay": "replay --mode block",
		"approved": "proposals ls --status approved", "proposals-show": "proposals show 5f0987b134",
		"removal": "proposals show d10af74e8b", "wide": "proposals show ce2227e175",
	} {
		t.Run(name, func(t *testing.T) {
			golden(t, name+".txt", c.ok(strings.Fields(args)...))
			golden(t, name+".json", c.ok(append(strings.Fields(args), "-o", "json")...))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got:\n%s", name, diff)
	}
}

// script answers a review, doing something before each answer.
type script struct {
	steps []func() string
	rest  string
}

// Read gives the next answer.
func (s *script) Read(p []byte) (int, error) {
	if s.rest == "" {
		if len(s.steps) == 0 {
			return 0, io.EOF
		}
		s.rest = s.steps[0]() + "\n"
		s.steps = s.steps[1:]
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func say(text string) func() string { return func() string { return text } }

func TestReview(t *testing.T) {
	for _, test := range []struct {
		name    string
		answers []string
		want    string
		open    string
		rules   string
	}{
		{"end of input quits", nil, "Nothing was decided, 3 left open;", "p1 p2 p3", ""},
		{"q leaves the rest", []string{"y", "q"}, "1 approved, 2 left open;", "p2 p3", "192.0.2.1/32"},
		{"each has its answer", []string{"?", "y", "n", "s"}, "1 approved, 1 rejected, 1 skipped;", "p3", "192.0.2.1/32"},
		{"nonsense is asked again", []string{"yes", "", "s", "s", "y"}, "1 approved, 2 skipped;", "p1 p2", "192.0.2.3/32"},
		{"another rule in its place", []string{"e", "", "e", "what", "e", "192.0.2.1 tcp/443", "s", "q"},
			"1 replaced by your rule, 1 skipped, 1 left open;", "p1 p2 p3", "192.0.2.1/32 tcp/443"},
	} {
		t.Run(test.name, func(t *testing.T) {
			url, l := server(t)
			propose(t, l, "w", "p1 192.0.2.1", "p2 192.0.2.2", "p3 192.0.2.3")
			c := cli{t: t, url: url, stdin: strings.NewReader(strings.Join(append(test.answers, ""), "\n"))}
			if out := c.ok("review"); !strings.Contains(out, test.want) {
				t.Errorf("output:\n%s\nwant %q", out, test.want)
			}
			state := fold(t, l)
			if got := ids(state.Proposals("", policy.StatusOpen)); got != test.open {
				t.Errorf("open are %q, want %q", got, test.open)
			}
			var rules []string
			for _, r := range state.Policy("w").Rules {
				rules = append(rules, r.String())
			}
			if got := strings.Join(rules, " "); got != test.rules {
				t.Errorf("rules %q, want %q", got, test.rules)
			}
		})
	}
}

func TestReviewTellsWhatAnotherChangedMeanwhile(t *testing.T) {
	url, l := server(t)
	propose(t, l, "w", "p1 192.0.2.1", "p2 192.0.2.2")
	other := cli{t: t, url: url}
	c := cli{t: t, url: url, stdin: &script{steps: []func() string{
		func() string { other.ok("policy", "allow", "w", "203.0.113.1", "--reason", "urgent"); return "y" },
		say("y"),
		func() string { other.ok("proposals", "reject", "p2"); return "y" },
	}}}
	code, out, errs := c.run("review")
	if code != exitOK || !strings.Contains(out, "1 approved, 1 no longer open;") {
		t.Errorf("exit code %d, output:\n%s", code, out)
	}
	for _, want := range []string{"policy w has changed since revision 2", "add 203.0.113.1/32 (urgent)", "proposal p2 is rejected since revision 5"} {
		if !strings.Contains(errs, want) {
			t.Errorf("not told %q in:\n%s", want, errs)
		}
	}
	if n := strings.Count(out, "proposal p1 for policy w"); n != 2 {
		t.Errorf("p1 was shown %d times, want 2", n)
	}
}

func TestTenThousandProposals(t *testing.T) {
	const n = 10_000
	path := filepath.Join(t.TempDir(), "s")
	s, err := eventlog.StartServer(eventlog.ServerOptions{Dir: filepath.Join(t.TempDir(), "nats"), Socket: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	publish(t, s, n)
	c := cli{t: t, url: "unix://" + path}
	began := time.Now()
	out := c.ok("proposals", "ls")
	t.Logf("listed in %s", time.Since(began))
	if lines := strings.Count(out, "\n"); lines != n+1 {
		t.Errorf("%d lines, want %d", lines, n+1)
	}
	began = time.Now()
	c.ok("proposals", "approve", "p77")
	t.Logf("approved one in %s", time.Since(began))
}

// publish writes proposals as fast as the server takes them; AppendPolicy would
// wait for the disk after each.
func publish(t *testing.T, s *eventlog.Server, n int) {
	t.Helper()
	l, err := eventlog.Connect(t.Context(), s.Options())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it has made the streams
	nc, err := nats.Connect("", nats.InProcessServer(s.Options().InProcess))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		data, err := schemas.MarshalJSON(opened("w", fmt.Sprintf("p%d", i), fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.PublishAsync(schemas.PolicySubject("w"), data); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(3 * time.Minute):
		t.Fatal("the server does not take them")
	}
}

func opened(name, id, text string) *schemas.PolicyEvent {
	return &schemas.PolicyEvent{Policy: name, Actor: "learner", TimeNs: today.UnixNano(),
		Change: &schemas.PolicyEvent_ProposalOpened{ProposalOpened: &schemas.ProposalOpened{Proposal: &schemas.Proposal{
			Id: id, Action: "add", Evidence: "e", Rules: []*schemas.ProposedRule{{Rule: &schemas.Rule{Text: text}, AddressesAdmitted: 1, AddressesSeen: 1}}}}}}
}

// propose appends proposals, each an ID and a rule.
func propose(t *testing.T, l *eventlog.Log, name string, proposals ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	last := fold(t, l).LastSequence(name)
	for _, p := range proposals {
		id, text, _ := strings.Cut(p, " ")
		var err error
		last, err = l.AppendPolicy(ctx, opened(name, id, text), last)
		if err != nil {
			t.Fatal(err)
		}
	}
}

func fold(t *testing.T, l *eventlog.Log) *policy.State {
	t.Helper()
	d, err := operator.Open(t.Context(), l, "reader", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return d.State()
}

func ids(all []policy.Proposal) string {
	var out []string
	for _, p := range all {
		out = append(out, p.ID)
	}
	return strings.Join(out, " ")
}
