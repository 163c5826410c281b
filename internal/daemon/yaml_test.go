package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type all struct {
	Host    string  `yaml:"host"`
	Seconds float64 `yaml:"seconds"`
	Count   uint32  `yaml:"count"`
	On      bool    `yaml:"on"`
	Targets []struct {
		URL string `yaml:"url"`
	} `yaml:"targets"`
	NATS NATS `yaml:"nats"`
}

// Validate takes everything.
func (*all) Validate() error { return nil }

func TestWrongTypesAreToldInWordsOfTheFile(t *testing.T) {
	for text, want := range map[string]string{
		"host: x\nseconds: hunter2": "line 2: seconds: want a number, have a text",
		"count: -1":                 "line 1: count: want a whole number in its bounds, have a number",
		"on: hunter2":               "line 1: on: want true or false, have a text",
		"targets: hunter2":          "line 1: targets: want a list, have a text",
		"nats: hunter2":             "line 1: nats: want keys with values, each on a line of its own and indented, have a text",
		"nats:\n  - a":              "line 2: want keys with values, each on a line of its own and indented, have a list",
		"host: [hunter2]":           "line 1: host: want a text, have a list",
		"targets:\n  - url: {a: b}": "line 2: url: want a text, have keys with values",
		"nats: {on: x}":             "line 1: unknown key on: see docs/OPERATIONS.md",
		"hosts: x\nseconds: y":      "line 1: unknown key hosts: see docs/OPERATIONS.md for those that there are\nline 2: seconds: want a number",
	} {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var c all
		err := ReadConfig(path, &c)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
