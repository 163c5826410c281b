package learner

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheShippedConfigurationIsRight(t *testing.T) {
	d, err := LoadDaemon("../deploy/learner.yaml")
	if err != nil || d.Snapshot != DefaultDaemon().Snapshot {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestConfigurationReachesTheOptions(t *testing.T) {
	d := load(t, `
nats: {url: "nats://x", creds_file: /c}
snapshot: /s
cap_ipv4: 28
cap_ipv6: 80
rule_cost: 3.5
window_days: 10
unused_days: 5
max_proposals: 7
max_destinations: 8
max_destinations_total: 9
`)
	want := Options{RuleCost: 3.5, Cap4: 28, Cap6: 80, Window: 240 * time.Hour, Unused: 120 * time.Hour,
		Limits: Limits{Open: 7, Destinations: 8, Total: 9}}
	if got := d.options(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := load(t, "").options().withDefaults(), DefaultOptions(); got != want {
		t.Errorf("%+v, want the defaults", got)
	}
}

func load(t *testing.T, text string) Daemon {
	t.Helper()
	d, err := LoadDaemon(configFile(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "learner.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWrongConfigurationNamesTheKey(t *testing.T) {
	for text, want := range map[string]string{
		"snapsot: /x":                         "snapsot",
		"snapshot: ''":                        "snapshot",
		"nats: {socket: ''}":                  "nats",
		"nats: {url: 'foo://'}":               "nats.url",
		"nats: {cert_file: /c}":               "key_file",
		"nats: {listen: '127.0.0.1:1'}":       "listen",
		"cap_ipv4: 33":                        "cap_ipv4",
		"cap_ipv6: 24":                        "cap_ipv6",
		"rule_cost: -1":                       "rule_cost",
		"rule_cost: .nan":                     "rule_cost",
		"window_days: 0.5":                    "window_days",
		"unused_days: 100000":                 "unused_days",
		"max_proposals: -1":                   "max_proposals",
		"max_destinations: many":              "line 1",
		"max_destinations_total: 99999999999": "max_destinations_total",
	} {
		if _, err := LoadDaemon(configFile(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v does not name %s", text, err, want)
		}
	}
}
