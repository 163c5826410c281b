package daemon

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type config struct {
	Data string `yaml:"data"`
}

func (c config) Validate() error {
	if c.Data == "" {
		return errors.New("data: must not be empty")
	}
	return nil
}

func program(run func(config) error) Program[config] {
	return Program[config]{
		Name: "egw-test", Config: "/none/test.yaml",
		Load: func(path string) (config, error) {
			c := config{Data: "default"}
			err := ReadConfig(path, &c)
			return c, err
		},
		Run: func(_ context.Context, c config, _ *slog.Logger) error { return run(c) },
	}
}

func TestExitCodesTellWhoIsToBlame(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "test.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("data: x\n")
	for name, c := range map[string]struct {
		args  []string
		fails error
		code  int
		says  string
		ran   bool
	}{
		"runs":            {args: []string{"-config", good}, ran: true},
		"an empty file":   {args: []string{"-config", write("")}, ran: true},
		"ends by itself":  {args: []string{"-config", good}, fails: errors.New("disk on fire"), code: 1, says: "disk on fire", ran: true},
		"check":           {args: []string{"-config", good, "-check"}, says: "is right"},
		"version":         {args: []string{"-version"}, says: "\n"},
		"help":            {args: []string{"-h"}, says: "-config"},
		"unknown flag":    {args: []string{"-verbose"}, code: 2, says: "-verbose"},
		"wrong level":     {args: []string{"-log-level", "loud", "-config", good}, code: 2, says: "-log-level"},
		"no file":         {args: nil, code: 2, says: "/none/test.yaml"},
		"unknown key":     {args: []string{"-config", write("dta: x\n"), "-check"}, code: 2, says: "dta"},
		"wrong value":     {args: []string{"-config", write("data: ''\n"), "-check"}, code: 2, says: "data: must not be empty"},
		"not YAML at all": {args: []string{"-config", write("{"), "-check"}, code: 2, says: "test.yaml"},
	} {
		ran := false
		var out bytes.Buffer
		code := program(func(config) error { ran = true; return c.fails }).run(t.Context(), c.args, &out, &out)
		if code != c.code || !strings.Contains(out.String(), c.says) || ran != c.ran {
			t.Errorf("%s: exit code %d, ran %v, %q; want %d, %v, %q", name, code, ran, out.String(), c.code, c.ran, c.says)
		}
	}
}

func TestASecretInTheWrongPlaceIsNotTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.yaml")
	if err := os.WriteFile(path, []byte("data: [hunter2]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var c config
	err := ReadConfig(path, &c)
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("says %v", err)
	}
	if err := os.WriteFile(path, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ReadConfig(path, &c); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("says %v", err)
	}
}

func TestAProgramsOwnFlagsAndCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.yaml")
	if err := os.WriteFile(path, []byte("data: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := program(nil)
	loud := false
	p.Flags = func(fs *flag.FlagSet) { fs.BoolVar(&loud, "loud", false, "") }
	p.Check = func(config) error { return errors.New("no such file") }
	var out, errs bytes.Buffer
	if code := p.run(t.Context(), []string{"-loud", "-check", "-config", path}, &out, &errs); code != 2 || !loud ||
		!strings.Contains(errs.String(), path+": no such file") {
		t.Errorf("exit code %d, loud %v: %s", code, loud, errs.String())
	}
}
