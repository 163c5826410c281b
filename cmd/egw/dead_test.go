package main

import (
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/schemas"
)

func TestDeadLettersAreShown(t *testing.T) {
	url, l := server(t)
	for _, d := range []eventlog.DeadLetter{
		{Reason: "too_old", Error: "Bad Request: entry for stream '{}' has timestamp too old", Stream: schemas.StreamFlows, Sequence: 7, Index: 3,
			EventID: "web-1/boot/9", EventTime: today.Add(-200 * time.Hour), Redelivered: true, Entry: `{"comm":"wget` + "\x1b[2J" + `"}`,
			Labels: map[string]string{"host": "web-1", "workload": "shop/web", "verdict": "deny", "service_name": "egresswarden"}},
		{Reason: "unreadable", Error: "not a flow batch", Stream: schemas.StreamFlows, Sequence: 8, Payload: []byte("junk\x00")},
	} {
		d.Consumer, d.Time = "collector-loki", today
		if err := l.PublishDead(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if err := l.PublishDead(t.Context(), d); err != nil { // once more, as after a crash
			t.Fatal(err)
		}
	}
	c := cli{t: t, url: url}
	for name, args := range map[string]string{"dead-ls": "dead ls", "dead-show": "dead show 1", "dead-unreadable": "dead show 2"} {
		golden(t, name+".txt", c.ok(strings.Fields(args)...))
		golden(t, name+".json", c.ok(append(strings.Fields(args), "-o", "json")...))
	}
	if out := c.ok("dead", "ls", "--reason", "unreadable", "--since", "1h"); strings.Contains(out, "too_old") || !strings.Contains(out, "unreadable") {
		t.Errorf("filtered: %s", out)
	}
	for args, code := range map[string]int{"dead show 3": exitNotFound, "dead show x": exitUsage, "dead ls -n -1": exitUsage, "dead ls --since never": exitUsage} {
		if got, _, errs := c.run(strings.Fields(args)...); got != code {
			t.Errorf("egw %s: exit code %d, want %d: %s", args, got, code, errs)
		}
	}
}
