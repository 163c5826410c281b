package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/build"
	"github.com/egresswarden/egresswarden/internal/testutil/world"
	"golang.org/x/sys/unix"
)

// host is what the enforcer under test calls itself.
const host = "e2e"

// enforcer is the program under test, which tests start and kill.
type enforcer struct {
	config, logFile, socket string

	program string
	// world has the namespace in which it runs, with Docker and the containers' links.
	world *world.World
	cmd   *exec.Cmd
	done  chan struct{}
	// mark is where in the log the present process began.
	mark int64
}

func newEnforcer(t *testing.T, w *world.World, dir, dockerSocket string) *enforcer {
	t.Helper()
	e := &enforcer{
		config:  filepath.Join(dir, "enforcer.yaml"),
		logFile: filepath.Join(dir, "enforcer.log"),
		socket:  filepath.Join(dir, "nats.sock"),
		program: build.Binary(t, "cmd/egw-enforcer"),
		world:   w,
	}
	e.configure(t, dir, dockerSocket, "")
	t.Cleanup(func() {
		if e.cmd != nil {
			e.kill()
		}
		if t.Failed() {
			t.Logf("end of the enforcer's log:\n%s", e.tail())
		}
	})
	return e
}

// configure writes the configuration; more is YAML to add.
func (e *enforcer) configure(t *testing.T, dir, dockerSocket, more string) {
	t.Helper()
	text := fmt.Sprintf(`host: %s
data: %s
pins: %s
policies: %s
docker: unix://%s
nats: {socket: %s}
%s
`, host, filepath.Join(dir, "data"), pinDir, filepath.Join(dir, "policies"), dockerSocket, e.socket, more)
	if err := os.WriteFile(e.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// launch starts the program and does not wait.
func (e *enforcer) launch(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(e.logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	st, err := log.Stat()
	if err != nil {
		t.Fatal(err)
	}
	e.mark = st.Size()
	e.cmd, e.done = exec.Command(e.program, "-config", e.config), make(chan struct{})
	e.cmd.Stdout, e.cmd.Stderr = log, log
	if err := e.world.Host.Start(e.cmd); err != nil {
		t.Fatalf("start the enforcer: %v", err)
	}
	go func(c *exec.Cmd, done chan struct{}) {
		_ = c.Wait()
		close(done)
	}(e.cmd, e.done)
}

// start starts the program and waits until the gate is attached and its event
// log answers.
func (e *enforcer) start(t *testing.T) {
	t.Helper()
	e.launch(t)
	testutil.Eventually(t, "the enforcer is ready", func() error {
		select {
		case <-e.done:
			t.Fatalf("the enforcer ended: %v\n%s", e.cmd.ProcessState, e.tail())
		default:
		}
		if !bytes.Contains(e.log(), []byte("gate attached")) {
			return errors.New("the gate is not attached")
		}
		_, err := os.Stat(e.socket)
		return err
	})
}

// kill ends the program as a crash would.
func (e *enforcer) kill() {
	_ = e.cmd.Process.Kill()
	<-e.done
	e.cmd = nil
}

// stop ends the program in good order.
func (e *enforcer) stop(t *testing.T) {
	t.Helper()
	if err := unix.Kill(e.cmd.Process.Pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, "the enforcer ends on SIGTERM", func() error {
		select {
		case <-e.done:
			return nil
		default:
			return errors.New("it runs")
		}
	})
	if code := e.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the enforcer ended with %d", code)
	}
	e.cmd = nil
}

// log is what the present process has written.
func (e *enforcer) log() []byte {
	text, err := os.ReadFile(e.logFile)
	if err != nil {
		return []byte(err.Error())
	}
	return text[min(int64(len(text)), e.mark):]
}

func (e *enforcer) tail() []byte {
	const most = 16 << 10
	text, err := os.ReadFile(e.logFile)
	if err != nil {
		return []byte(err.Error())
	}
	return text[max(0, len(text)-most):]
}

// events connects to the enforcer's event log, as the CLI does.
func (e *enforcer) events(t *testing.T) *eventlog.Log {
	t.Helper()
	var l *eventlog.Log
	testutil.Eventually(t, "the event log answers", func() (err error) {
		l, err = eventlog.Connect(context.WithoutCancel(t.Context()), eventlog.Options{URL: "unix://" + e.socket})
		return err
	})
	t.Cleanup(l.Close)
	return l
}
