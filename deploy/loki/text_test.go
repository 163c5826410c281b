// Package loki holds Loki's alert rules to what they promise.
package loki

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil/loki"
)

func TestLokitoolAcceptsTheRules(t *testing.T) {
	tool := loki.Program(t, "lokitool")
	broken := filepath.Join(t.TempDir(), "broken.yaml")
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(broken, []byte(strings.Replace(string(text), "sum by (workload)", "sum by workload", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, check := range [][]string{{"rules", "lint", "-n"}, {"rules", "check"}} {
		if out, err := exec.Command(tool, append(check, rulesFile)...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", check, err, out)
		}
		if out, err := exec.Command(tool, append(check, broken)...).CombinedOutput(); err == nil {
			t.Errorf("%v accepts a broken rule:\n%s", check, out)
		}
	}
}

// Headings of the runbook that begin as an alert's name does.
var heading = regexp.MustCompile(`(?m)^#+ (Egw\w+)$`)

func TestEveryAlertSaysWhatItMeansAndWhatToDo(t *testing.T) {
	const runbook = "https://github.com/egresswarden/egresswarden/blob/main/docs/OPERATIONS.md#"
	text, err := os.ReadFile("../../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	var headings, alerts []string
	for _, m := range heading.FindAllStringSubmatch(string(text), -1) {
		headings = append(headings, m[1])
	}
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			alerts = append(alerts, r.Alert)
			if s := r.Labels["severity"]; s != "warning" && s != "critical" {
				t.Errorf("%s: severity %q", r.Alert, s)
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s: without words", r.Alert)
			}
			if got, want := r.Annotations["runbook_url"], runbook+strings.ToLower(r.Alert); got != want {
				t.Errorf("%s: runbook %q, want %q", r.Alert, got, want)
			}
		}
	}
	if !slices.Equal(alerts, headings) {
		t.Errorf("alerts and headings differ, or come in another order:\n%q\n%q", alerts, headings)
	}
}
