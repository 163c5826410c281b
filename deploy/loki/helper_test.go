package loki

import (
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const rulesFile = "egresswarden.yaml"

// rule and file are the rules as far as the tests look at them.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

type group struct {
	Name     string `yaml:"name"`
	Interval string `yaml:"interval,omitempty"`
	Rules    []rule `yaml:"rules"`
}

type file struct {
	Groups []group `yaml:"groups"`
}

func readRules(t *testing.T) file {
	t.Helper()
	var f file
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		t.Fatal(err)
	}
	return f
}
