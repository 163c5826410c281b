// Package process runs programs that tests kill, halt and start again: each with
// its output in a file, and never outliving the test.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/internal/testutil"
)

// ErrEnded is a program that has ended.
var ErrEnded = errors.New("the program has ended")

// Process is a running program. The nil one has ended.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Launch starts a program that writes to the end of the log, and dies with the
// test. The kernel takes the death of the thread that started it for that of
// the test: so the thread stays until the program ends.
func Launch(log string, c *exec.Cmd) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &Process{cmd: c, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	return p, nil
}

// Running tells whether it has not ended.
func (p *Process) Running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// PID is its number; 0 of the nil one.
func (p *Process) PID() int {
	if p == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Signal sends one. ErrEnded.
func (p *Process) Signal(sig unix.Signal) error {
	if !p.Running() {
		return fmt.Errorf("signal %s: %w", unix.SignalName(sig), ErrEnded)
	}
	return p.cmd.Process.Signal(sig)
}

// End sends the signal and waits, at last with SIGKILL. Ended already is no error.
func (p *Process) End(sig unix.Signal) error {
	if !p.Running() {
		return nil
	}
	_ = p.cmd.Process.Signal(sig) // it may have ended meanwhile
	err := testutil.Poll(context.Background(), testutil.Long, func() error {
		if p.Running() {
			return fmt.Errorf("%s does not end", p.cmd.Path)
		}
		return nil
	})
	if err != nil {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	return err
}

// Pause halts it and returns when every thread has met the signal.
func (p *Process) Pause() error {
	if err := p.Signal(unix.SIGSTOP); err != nil {
		return err
	}
	return testutil.Poll(context.Background(), testutil.Long, p.stopped)
}

// Resume goes on after Pause.
func (p *Process) Resume() error { return p.Signal(unix.SIGCONT) }

// Err is how it ended; nil while it runs, and of the nil one.
func (p *Process) Err() error {
	if p == nil || p.Running() {
		return nil
	}
	return p.err
}

func (p *Process) stopped() error {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.PID()))
	if err != nil || len(stats) == 0 {
		return errors.Join(ErrEnded, err)
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		// The state comes after the name in parentheses.
		if _, state, _ := strings.Cut(string(text[bytes.LastIndexByte(text, ')'):]), " "); !strings.HasPrefix(state, "T") {
			return fmt.Errorf("%s is not stopped", path)
		}
	}
	return nil
}
