package enforcer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheShippedConfigurationIsRight(t *testing.T) {
	if _, err := LoadConfig("../deploy/enforcer.yaml"); err != nil {
		t.Error(err)
	}
}

func TestWrongConfigurationNamesTheKey(t *testing.T) {
	for text, want := range map[string]string{
		"polcies: /x":              "polcies",
		"default_mode: lern":       "default_mode",
		"unknown_container: maybe": "unknown_container",
		"data: ''":                 "data",
		"nats: {socket: ''}":       "nats",
		"settle_seconds: -1":       "settle_seconds",
		"listen_metrics: ':9741'":  "listen_metrics",
		"nats: {url: nats://x, listen: '127.0.0.1:1', socket: ''}": "nats.listen",
	} {
		path := filepath.Join(t.TempDir(), "enforcer.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v does not name %s", text, err, want)
		}
	}
}
