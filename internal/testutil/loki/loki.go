// Package loki runs a real Loki for a test: an ordinary process that listens on
// loopback alone and keeps its data in a folder of the test. It is built by
// scripts/loki.sh, never linked in.
package loki

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/process"
)

// EnvFolder names the variable with the folder of the programs.
const EnvFolder = "EGW_LOKI"

// Tenant is whose data the server's own requests are about, with Tenants on.
const Tenant = "egwtest"

// Options of a server. The zero value is a Loki without rules and tenants.
type Options struct {
	// Dir keeps the data; a temporary folder if empty.
	Dir string
	// Rules is the text of a file of rules. The ruler evaluates them every
	// Evaluate, a second if zero, and sends alerts to Alertmanager, a URL.
	Rules        string
	Evaluate     time.Duration
	Alertmanager string
	// Tenants makes Loki ask for a tenant in every request.
	Tenants bool
	// Config adds to the configuration, or replaces, part by part: its keys are
	// those of Loki's own file.
	Config map[string]any
}

// Server is a Loki. Any goroutine may query and push; those that start and stop
// it come one at a time.
type Server struct {
	// URL is where it listens, such as http://127.0.0.1:23100.
	URL string

	program, dir, log string
	options           Options
	process           *process.Process
	client            http.Client
	perPage           int
}

// Program gives the path of loki or lokitool. Without them the test skips, or
// fails with CI=1.
func Program(t testing.TB, name string) string {
	t.Helper()
	folder := os.Getenv(EnvFolder)
	if folder == "" {
		testutil.Skip(t, "needs a real Loki: set "+EnvFolder+"=$(scripts/loki.sh)")
	}
	path := filepath.Join(folder, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s: %v", EnvFolder, err)
	}
	return path
}

// Start runs a Loki until the test ends, and returns when it takes pushes and
// queries.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s := &Server{program: Program(t, "loki"), dir: o.Dir, log: filepath.Join(t.TempDir(), "loki.log"), options: o, perPage: pageSize}
	if s.dir == "" {
		s.dir = t.TempDir()
	}
	s.client.Transport = &http.Transport{MaxIdleConnsPerHost: 8}
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("end of loki's log:\n%s", s.Log())
		}
	})
	if err := s.first(t.Context()); err != nil {
		t.Fatalf("start loki: %v\n%s", err, s.Log())
	}
	return s
}

// first starts it on ports that are free. Somebody else may take one between
// the look and the use: then others are tried.
func (s *Server) first(ctx context.Context) (err error) {
	const tries = 5
	for range tries {
		if err = s.configure(); err != nil {
			return err
		}
		if err = s.Launch(ctx); !errors.Is(err, process.ErrEnded) {
			return err
		}
	}
	return err
}

// Launch starts it again after Stop or Kill, on the same address and data, and
// returns when it is ready.
func (s *Server) Launch(ctx context.Context) error {
	if s.process.Running() {
		return errors.New("launch loki: it runs already")
	}
	p, err := process.Launch(s.log, exec.Command(s.program, "-config.file="+s.configPath()))
	if err != nil {
		return err
	}
	s.process = p
	err = testutil.Poll(ctx, testutil.Long, func() error {
		if !p.Running() {
			return nil
		}
		return s.mine(ctx)
	})
	if !p.Running() {
		return fmt.Errorf("%w: %w", process.ErrEnded, p.Err())
	}
	return err
}

// mine is an error until the one that answers is this one, and ready: another may
// have the port.
func (s *Server) mine(ctx context.Context) error {
	if err := s.Ready(ctx); err != nil {
		return err
	}
	config, err := s.get(ctx, "/config", nil)
	if err == nil && !bytes.Contains(config, []byte(s.dir)) {
		err = fmt.Errorf("%s is another loki's", s.URL)
	}
	return err
}

// Stop ends it in good order: what is in memory is flushed.
func (s *Server) Stop() error { return s.process.End(unix.SIGTERM) }

// Kill ends it at once, paused or not. Ended already is no error.
func (s *Server) Kill() error { return s.process.End(unix.SIGKILL) }

// Pause halts it: connections stand, nothing is answered. Resume goes on.
func (s *Server) Pause() error { return s.process.Pause() }

// Resume goes on after Pause.
func (s *Server) Resume() error { return s.process.Resume() }

// PID is the process's number, for reading what it uses; 0 before a start.
func (s *Server) PID() int { return s.process.PID() }

// Log is the end of what it wrote.
func (s *Server) Log() string {
	const most = 16 << 10
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}
