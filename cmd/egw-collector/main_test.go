package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/build"
)

func config(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "collector.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestIsNotReadyBeforeItReachesTheEventLog(t *testing.T) {
	path := config(t, "nats: {socket: /nowhere/s}\ntargets: [{stdout: true}]\nlisten_metrics: 127.0.0.1:0\n")
	c := exec.Command(build.Binary(t, "cmd/egw-collector"), "-config", path)
	log, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill() }()
	url := ""
	lines := bufio.NewScanner(log)
	for url == "" && lines.Scan() {
		_, after, _ := strings.Cut(lines.Text(), "url=")
		url = strings.TrimSuffix(after, "/metrics")
	}
	testutil.Eventually(t, "readiness", func() error {
		r, err := http.Get(url + "/readyz")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		if err == nil && (r.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), "collector_event_log: the event log was not reached yet")) {
			err = fmt.Errorf("it is %s %s", r.Status, text)
		}
		return err
	})
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, log); err != nil {
		t.Error(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestChecksItsConfiguration(t *testing.T) {
	program, events := build.Binary(t, "cmd/egw-collector"), filepath.Join(t.TempDir(), "events")
	for name, c := range map[string]struct {
		text string
		args []string
		says string
	}{
		"a file":                           {"targets: [{file: " + events + "}]", nil, "is right"},
		"no targets":                       {"{}", nil, "name at least one"},
		"no targets, but one of the flags": {"{}", []string{"-file", events}, "is right"},
		"a folder that is not there":       {"{}", []string{"-file", events + "/x"}, "no such file"},
	} {
		out, err := exec.Command(program, append(c.args, "-check", "-config", config(t, c.text))...).CombinedOutput()
		if right := c.says == "is right"; (err == nil) != right || !strings.Contains(string(out), c.says) {
			t.Errorf("%s: %s, %v", name, out, err)
		}
	}
	if _, err := os.Stat(events); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the check has made the file: %v", err)
	}
}
