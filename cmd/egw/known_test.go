package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/policy"
)

func TestAChangeForAnUnknownWorkloadWarnsAndIsMade(t *testing.T) {
	url, l := server(t)
	change := func(args ...string) string {
		t.Helper()
		var stdout, stderr bytes.Buffer
		a := &app{
			stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, env: func(string) string { return "" }, now: time.Now,
			knownWait: 3 * time.Minute,
		}
		if code := a.run(append(args, "--nats", url)); code != exitOK {
			t.Errorf("%v: exit code %d, stderr: %s", args, code, &stderr)
		}
		return stderr.String()
	}
	appear(t, l, "gone")
	if text := change("mode", "shop/none", "learn"); text != "" {
		t.Errorf("warned although no host answers: %s", text)
	}
	answerStatus(t, l, webStatus())
	for _, args := range [][]string{{"mode", "shop/wep", "learn"}, {"policy", "allow", "shop/wep", "192.0.2.1"}} {
		if text := change(args...); !strings.Contains(text, "no workload shop/wep on the 1 host that answered") {
			t.Errorf("%v: no warning: %q", args, text)
		}
	}
	for _, args := range [][]string{
		{"mode", "shop/web", "learn"}, {"policy", "allow", "shop/web", "192.0.2.1"}, {"policy", "allow", policy.Everyone, "192.0.2.1"},
	} {
		if text := change(args...); strings.Contains(text, "no workload") {
			t.Errorf("%v: %s", args, text)
		}
	}
}
