package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// result is what a command line did.
type result struct {
	code           int
	stdout, stderr string
}

// egw runs a command line in this process.
func egw(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(args, strings.NewReader(""), &stdout, &stderr, func(string) string { return "" })
	return result{code, stdout.String(), stderr.String()}
}

// want checks the exit code and what is printed where.
func (r result) want(t *testing.T, code int, stdout ...string) result {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d; stderr: %s", r.code, code, r.stderr)
	}
	for _, text := range stdout {
		if !strings.Contains(r.stdout, text) {
			t.Errorf("no %q in:\n%s", text, r.stdout)
		}
	}
	return r
}

// appear makes a host known to the event log.
func appear(t *testing.T, l *eventlog.Log, host string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := l.PublishHost(ctx, &schemas.HostEvent{Host: host, Kind: "enforcer.started", TimeNs: 1}); err != nil {
		t.Fatal(err)
	}
}

// answers stands in for a host's enforcer.
func answers(t *testing.T, l *eventlog.Log, host, name string, fn eventlog.Handler) {
	t.Helper()
	appear(t, l, host)
	if _, err := l.Handle(host, name, fn); err != nil {
		t.Fatal(err)
	}
}

func answerStatus(t *testing.T, l *eventlog.Log, s enforcer.Status) {
	t.Helper()
	answers(t, l, s.Host, enforcer.AskStatus, func(context.Context, []byte) ([]byte, error) { return json.Marshal(s) })
}

func webStatus() enforcer.Status {
	web := enforcer.Container{
		ID: "0123456789abcdef", Name: "shop-web-1", Image: "web:1", Workload: "shop/web", Mode: policy.ModeBlock, Running: true,
	}
	open := []string{"privileged: anything; cure: not so", "NET_RAW: packet sockets; cure: cap_drop: [NET_RAW]"}
	quiet := enforcer.Container{Name: "quiet-1", Running: true}
	bad := enforcer.Container{Name: "bad", Workload: "bad\x1b[2J", Mode: policy.ModeBlock, Problem: `label egress: mode "lern": want allow, learn or block`}
	return enforcer.Status{
		Host: "web-1", Version: "v1", Started: time.Now().Add(-time.Minute), Docker: true, Enforcing: true, Revision: 12,
		UnknownMode: policy.ModeBlock, BirthsKnown: 7, BirthsUnknown: 1, Problems: []string{"the policy log is lost"},
		Workloads: []enforcer.WorkloadStatus{
			{Workload: "shop/web", Mode: policy.ModeBlock, ModeFrom: "operator", Rules: 3, Revision: 11,
				Decisions: enforcer.Counters{Allow: 100, Deny: 20, WouldDeny: 3, Overflow: 5}, Degraded: true, Containers: []enforcer.ContainerStatus{{Container: web, Network: "veth", Open: open}}},
			{Workload: "quiet", Mode: policy.ModeAllow, ModeFrom: "default", Containers: []enforcer.ContainerStatus{{Container: quiet, Network: "host", Open: open[1:]}}},
			{Workload: "good", Mode: policy.ModeLearn, ModeFrom: "label", Containers: []enforcer.ContainerStatus{{Container: quiet, Network: "veth"}}},
			{Workload: bad.Workload, Mode: policy.ModeBlock, ModeFrom: "invalid label", Containers: []enforcer.ContainerStatus{{Container: bad}}},
		},
	}
}

func TestStatusShowsWhatIsEnforcedAndWhatIsNot(t *testing.T) {
	url, l := server(t)
	answerStatus(t, l, webStatus())
	r := egw(t, "status", "--nats", url).want(t, exitOK,
		"HOST web-1  enforcing, docker connected, policy revision 12", "7 known at birth, 1 unknown", "problem: the policy log is lost",
		"  shop/web is degraded: privileged: anything; cure: not so (shop-web-1)", "; cure: cap_drop: [NET_RAW] (shop-web-1)", "bad: blocked: label egress", "5 decisions were counted without their destination", "0 of 1")
	for _, row := range []string{
		"shop/web block operator 11 3 1 100 20 3 degraded", "quiet allow default 0 0 1 0 0 0 -", "good learn label 0 0 1 0 0 0 yes",
	} {
		if !matchesLine(r.stdout, row) {
			t.Errorf("no row %q in:\n%s", row, r.stdout)
		}
	}
	if strings.Contains(r.stdout, "quiet is degraded") {
		t.Errorf("what is not judged is called degraded:\n%s", r.stdout)
	}
	if strings.Contains(r.stdout, "\x1b") {
		t.Error("a workload's name steers the terminal")
	}
	var all []hostStatus
	r = egw(t, "status", "--nats", url, "-o", "json").want(t, exitOK)
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil || len(all) != 1 || all[0].Status.Workloads[0].Decisions.Deny != 20 {
		t.Errorf("json: %v\n%s", err, r.stdout)
	}
}

// matchesLine tells whether a line has these words, whatever is between them.
func matchesLine(text, words string) bool {
	for line := range strings.Lines(text) {
		if strings.Join(strings.Fields(line), " ") == words {
			return true
		}
	}
	return false
}

func TestStatusOfWhatDoesNotEnforceEndsWithFive(t *testing.T) {
	url, l := server(t)
	egw(t, "status", "--nats", url).want(t, exitUnhealthy)
	answerStatus(t, l, webStatus())
	appear(t, l, "gone")
	r := egw(t, "status", "--nats", url).want(t, exitUnhealthy, "HOST gone  NO ANSWER", "HOST web-1  enforcing")
	if !strings.Contains(r.stderr, "gone") || strings.Contains(r.stderr, "web-1") {
		t.Errorf("stderr names the wrong hosts: %s", r.stderr)
	}
	egw(t, "status", "--nats", url, "--host", "web-1").want(t, exitOK)
	open := webStatus()
	open.Host, open.Enforcing, open.Docker = "open", false, false
	answerStatus(t, l, open)
	egw(t, "status", "--nats", url, "--host", "open").want(t, exitUnhealthy, "NOT ENFORCING", "DOCKER AWAY")
}

func TestWorkloadsListsContainers(t *testing.T) {
	url, l := server(t)
	answerStatus(t, l, webStatus())
	r := egw(t, "workloads", "--nats", url).want(t, exitOK)
	for _, row := range []string{
		"shop/web web-1 block operator shop-web-1 web:1 veth running, degraded", "quiet web-1 allow default quiet-1 - host running",
	} {
		if !matchesLine(r.stdout, row) {
			t.Errorf("no row %q in:\n%s", row, r.stdout)
		}
	}
	var rows []workloadRow
	r = egw(t, "workloads", "--nats", url, "-o", "json").want(t, exitOK)
	if err := json.Unmarshal([]byte(r.stdout), &rows); err != nil || len(rows) != 4 || rows[0].ContainerID == "" || len(rows[0].Open) != 2 {
		t.Errorf("json: %v\n%s", err, r.stdout)
	}
}

// answerExplain echoes the question in an explanation.
func answerExplain(t *testing.T, l *eventlog.Log, host string) {
	t.Helper()
	answerExplainAs(t, l, host, true)
}

func answerExplainAs(t *testing.T, l *eventlog.Log, host string, enforcing bool) {
	t.Helper()
	answers(t, l, host, enforcer.AskExplain, func(_ context.Context, data []byte) ([]byte, error) {
		var q enforcer.ExplainRequest
		if err := json.Unmarshal(data, &q); err != nil {
			return nil, err
		}
		if q.Workload != "shop/web" {
			return nil, fmt.Errorf("%w: %q", enforcer.ErrNoWorkload, q.Workload)
		}
		return json.Marshal(enforcer.Explanation{
			Host: host, Workload: q.Workload, Dst: q.Dst, Proto: q.Proto.String(), Port: q.Port, Mode: policy.ModeBlock, Verdict: "deny",
			Rule: "0badcafe", RuleText: "deny 203.0.113.0/24", Owner: "ann", Source: "/etc/web.rules:7", Comment: "not there", Revision: 9, Judged: "kernel", Enforcing: enforcing,
		})
	})
}

func TestExplainNamesTheRule(t *testing.T) {
	url, l := server(t)
	answerExplain(t, l, "web-1")
	egw(t, "explain", "shop/web", "203.0.113.7:443", "--nats", url).want(t, exitOK,
		"shop/web to 203.0.113.7:443/tcp: denied", "deny 203.0.113.0/24", "0badcafe", "ann", "/etc/web.rules:7", "not there", "9", "block", "web-1", "the kernel")
	egw(t, "explain", "shop/web", "203.0.113.7", "--nats", url).want(t, exitOK, "no port was named")
	r := egw(t, "explain", "shop/web", "[2001:db8::1]:53/udp", "--nats", url, "-o", "json").want(t, exitOK)
	var all []enforcer.Explanation
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil || len(all) != 1 || all[0].Dst != netip.MustParseAddr("2001:db8::1") || all[0].Proto != "udp" || all[0].Port != 53 {
		t.Errorf("json: %v\n%s", err, r.stdout)
	}
}

func TestExplainTellsThatNothingIsEnforced(t *testing.T) {
	url, l := server(t)
	answerExplainAs(t, l, "open", false)
	r := egw(t, "explain", "shop/web", "203.0.113.7:443", "--nats", url).want(t, exitUnhealthy, "NOT ENFORCED", "attached: denied")
	if !strings.Contains(r.stderr, "open") {
		t.Errorf("stderr does not name the host: %s", r.stderr)
	}
	egw(t, "explain", "shop/web", "203.0.113.7:443", "--nats", url, "-o", "json").want(t, exitUnhealthy, `"enforcing": false`)
}

func TestExplainOfAnUnknownWorkloadIsNotFound(t *testing.T) {
	url, l := server(t)
	answerExplain(t, l, "web-1")
	r := egw(t, "explain", "shop/wep", "203.0.113.7:443", "--nats", url).want(t, exitNotFound)
	if !strings.Contains(r.stderr, "shop/wep") {
		t.Errorf("the error does not name the workload: %s", r.stderr)
	}
	appear(t, l, "gone")
	egw(t, "explain", "shop/web", "203.0.113.7:443", "--nats", url).want(t, exitUnhealthy, "denied")
	egw(t, "explain", "shop/wep", "203.0.113.7:443", "--nats", url).want(t, exitUnhealthy)
}

func TestDestinationsAreReadStrictly(t *testing.T) {
	for text, want := range map[string]enforcer.ExplainRequest{
		"192.0.2.1":               {Dst: netip.MustParseAddr("192.0.2.1"), Proto: policy.ProtoTCP},
		"192.0.2.1:443":           {Dst: netip.MustParseAddr("192.0.2.1"), Port: 443, Proto: policy.ProtoTCP},
		"192.0.2.1:53/udp":        {Dst: netip.MustParseAddr("192.0.2.1"), Port: 53, Proto: policy.ProtoUDP},
		"192.0.2.1/icmp":          {Dst: netip.MustParseAddr("192.0.2.1"), Proto: policy.ProtoICMP},
		"2001:db8::1":             {Dst: netip.MustParseAddr("2001:db8::1"), Proto: policy.ProtoTCP},
		"[2001:db8::1]":           {Dst: netip.MustParseAddr("2001:db8::1"), Proto: policy.ProtoTCP},
		"[2001:db8::1]:8080/tcp":  {Dst: netip.MustParseAddr("2001:db8::1"), Port: 8080, Proto: policy.ProtoTCP},
		"[::ffff:192.0.2.1]:1":    {Dst: netip.MustParseAddr("::ffff:192.0.2.1"), Port: 1, Proto: policy.ProtoTCP},
		"[2001:db8::1]:65535/udp": {Dst: netip.MustParseAddr("2001:db8::1"), Port: 65535, Proto: policy.ProtoUDP},
	} {
		if got, err := parseTarget(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "x", "192.0.2", "192.0.2.1:", "192.0.2.1:65536", "192.0.2.1:-1", "192.0.2.1:443/sctp", "192.0.2.1/", "[192.0.2.1", "2001:db8::1]",
		"[2001:db8::1]443", "fe80::1%eth0", "[fe80::1%eth0]:1", "192.0.2.0/24", "example.org:443", "192.0.2.1:443/tcp/x", "[192.0.2.1]:443",
	} {
		if q, err := parseTarget(text); err == nil || exitCode(err, true) != exitUsage {
			t.Errorf("%q is taken as %+v, %v", text, q, err)
		}
	}
}
