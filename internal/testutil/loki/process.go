package loki

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

// errEnded is a Loki that ended by itself.
var errEnded = errors.New("loki ended")

// process is a running program. The nil process has ended.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	// err is how it ended, once done is closed.
	err error
}

// launch starts a program that writes to the end of the log, and dies with the
// test. The kernel takes the death of the thread that started it for that of
// the test: so the thread stays until the program ends.
func launch(log, program string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &process{cmd: exec.Command(program, args...), done: make(chan struct{})}
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
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return p, nil
}

func (p *process) running() bool {
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

func (p *process) pid() int {
	if p == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

func (p *process) signal(sig unix.Signal) error {
	if !p.running() {
		return fmt.Errorf("signal %s: %w", unix.SignalName(sig), errEnded)
	}
	return p.cmd.Process.Signal(sig)
}

// end sends the signal and waits, at last with SIGKILL.
func (p *process) end(sig unix.Signal) error {
	if !p.running() {
		return nil
	}
	_ = p.cmd.Process.Signal(sig) // it may have ended meanwhile
	err := testutil.Poll(context.Background(), testutil.Long, func() error {
		if p.running() {
			return errors.New("loki does not end")
		}
		return nil
	})
	if err != nil {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	return err
}

// stopped is an error until every thread has met a SIGSTOP, which takes a
// moment.
func (p *process) stopped() error {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.pid()))
	if err != nil || len(stats) == 0 {
		return errors.Join(errEnded, err)
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
