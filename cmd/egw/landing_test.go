package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/operator"
)

// answerApplied stands in for a host that cut and kept connections.
func answerApplied(t *testing.T, l *eventlog.Log, host string, did enforcer.Applied, asked *enforcer.AppliedRequest) {
	t.Helper()
	answers(t, l, host, enforcer.AskApplied, func(_ context.Context, data []byte) ([]byte, error) {
		if err := json.Unmarshal(data, asked); err != nil {
			return nil, err
		}
		return json.Marshal(did)
	})
}

func TestAChangeTellsWhatItCutOnAllHosts(t *testing.T) {
	url, l := server(t)
	var one, two enforcer.AppliedRequest
	answerApplied(t, l, "web-1", enforcer.Applied{Cut: 2}, &one)
	answerApplied(t, l, "web-2", enforcer.Applied{Cut: 1, Kept: 1}, &two)
	appear(t, l, "gone")
	egw(t, "policy", "deny", "web", "203.0.113.7", "--nats", url).want(t, exitOK,
		"policy web is at revision 1\n3 connections cut that the policy refuses now\n1 connection kept that the policy refuses now\n")
	if one.Revision != 1 || two.Revision != 1 {
		t.Errorf("asked for revisions %d and %d, want 1", one.Revision, two.Revision)
	}
	r := egw(t, "mode", "web", "block", "--yes", "--nats", url, "-o", "json").want(t, exitOK)
	var done doneView
	if err := json.Unmarshal([]byte(r.stdout), &done); err != nil || done.Connections == nil || done.Connections.Cut != 3 || done.Connections.Hosts != 2 {
		t.Errorf("json: %v\n%s", err, r.stdout)
	}
	answers(t, l, "late", enforcer.AskApplied, func(context.Context, []byte) ([]byte, error) { return nil, errors.New("not yet") })
	egw(t, "policy", "rm", "web", "deny 203.0.113.7", "--nats", url).want(t, exitOK, "not in force yet on late\n")
}

func TestEstablishedConnectionsAreKeptOnlyWhereThatIsAsked(t *testing.T) {
	url, l := server(t)
	keep := []string{"--keep-established", "--nats", url}
	for _, args := range [][]string{
		{"policy", "allow", "web", "203.0.113.7"}, {"policy", "deny", "web", "203.0.113.8"}, {"policy", "rm", "web", "203.0.113.7"},
		{"mode", "web", "block", "--yes"}, {"policy", "rollback", "web", "1", "--yes"},
	} {
		egw(t, append(args, keep...)...).want(t, exitOK)
		if args[0] == "mode" {
			egw(t, "policy", "allow", "web", "203.0.113.9", "--nats", url).want(t, exitOK)
		}
	}
	d, err := operator.Open(t.Context(), l, "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	records, err := d.History("web")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		plain := strings.Contains(r.What, "203.0.113.9")
		if r.Event.GetKeepEstablished() == plain || strings.Contains(r.What, "established connections kept") == plain {
			t.Errorf("%s: kept %v", r.What, r.Event.GetKeepEstablished())
		}
	}
	if len(records) != 6 || !d.State().LastEffect("web").Keep {
		t.Errorf("%d records, %+v", len(records), d.State().LastEffect("web"))
	}
	egw(t, "proposals", "reject", "p1", "--keep-established", "--nats", url).want(t, exitUsage)
}
