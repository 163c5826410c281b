package delivery

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/internal/testutil/process"
)

// victim is what can be killed, halted and started again.
type victim interface {
	Launch(context.Context) error
	Kill() error
	Pause() error
	Resume() error
}

// member is one of our processes.
type member struct {
	name, log string
	command   func() *exec.Cmd

	mu      sync.Mutex
	process *process.Process
}

// newMember is not started. Its log is shown when the test fails.
func newMember(t *testing.T, dir, name string, command func() *exec.Cmd) *member {
	t.Helper()
	m := &member{name: name, log: filepath.Join(dir, name+".log"), command: command}
	t.Cleanup(func() {
		if err := m.Kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("end of the %s's log:\n%s", name, m.tail())
		}
	})
	return m
}

// Launch starts the program; it does not wait for it to be ready.
func (m *member) Launch(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := process.Launch(m.log, m.command())
	if err != nil {
		return err
	}
	m.process = p
	return nil
}

func (m *member) current() *process.Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.process
}

// Kill is kill -9.
func (m *member) Kill() error { return m.current().End(unix.SIGKILL) }

// Pause is SIGSTOP.
func (m *member) Pause() error { return m.current().Pause() }

// Resume is SIGCONT.
func (m *member) Resume() error { return m.current().Resume() }

// alive is an error when the program has ended by itself.
func (m *member) alive() error {
	if p := m.current(); !p.Running() {
		return fmt.Errorf("the %s has ended by itself: %w\n%s", m.name, p.Err(), m.tail())
	}
	return nil
}

func (m *member) tail() string {
	const most = 8 << 10
	text, err := os.ReadFile(m.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}
