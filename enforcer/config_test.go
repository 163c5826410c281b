package enforcer

import (
	"os"
	"path/filepath"
	"reflect"
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
		"polcies: /x":                                              "polcies",
		"default_mode: lern":                                       "default_mode",
		"unknown_container: maybe":                                 "unknown_container",
		"data: ''":                                                 "data",
		"nats: {socket: ''}":                                       "nats",
		"ring_bytes: 100000":                                       "ring_bytes",
		"settle_seconds: -1":                                       "settle_seconds",
		"listen_metrics: ':9741'":                                  "listen_metrics",
		"nats: {url: 'foo://'}":                                    "nats.url",
		"nats: {url: 'nats://x:99999'}":                            "nats.url",
		"nats: {socket: nats.sock}":                                "nats.socket",
		"nats: {listen: '0.0.0.0:4277', token_file: /t}":           "nats.listen",
		"nats: {listen: '127.0.0.1', token_file: /t}":              "nats.listen",
		"nats: {listen: '127.0.0.1:4277'}":                         "nats.token_file",
		"nats: {max_flow_bytes: -1}":                               "nats.max_flow_bytes",
		"nats: {key_file: /k}":                                     "cert_file",
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

func TestCheckReadsTheFilesAndMakesNone(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	cfg := DefaultConfig()
	cfg.NATS.Listen, cfg.NATS.TokenFile = "127.0.0.1:4277", token
	if err := cfg.Check(); err != nil {
		t.Errorf("a token that the own server is yet to make: %v", err)
	}
	if _, err := os.Stat(token); err == nil {
		t.Error("it was made")
	}
	cfg.NATS.Listen, cfg.NATS.URL = "", "nats://x"
	if err := cfg.Check(); err == nil || !strings.Contains(err.Error(), "nats.token_file") {
		t.Errorf("a token that is missing for another server: %v", err)
	}
}

func TestEachKeyAndProblemIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(text), "\n## Configuration of egw-enforcer\n")
	part, _, _ = strings.Cut(part, "\n## ")
	config := reflect.TypeFor[Config]()
	for i := range config.NumField() {
		if key := config.Field(i).Tag.Get("yaml"); key != "nats" && !strings.Contains(part, "\n| `"+key+"` |") {
			t.Errorf("the key %s is not in the table", key)
		}
	}
	_, part, _ = strings.Cut(string(text), "\n### Problems\n")
	for _, kind := range problemKinds {
		if !strings.Contains(part, "\n| `"+word(kind)+"` |") {
			t.Errorf("the problem %s is not in the table", word(kind))
		}
	}
}
