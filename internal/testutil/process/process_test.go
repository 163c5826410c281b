package process

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/internal/testutil"
)

func TestAProcessIsHaltedAndKilled(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	p, err := Launch(log, exec.Command("sh", "-c", "echo on; exec sleep 600"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.End(unix.SIGKILL) })
	testutil.Eventually(t, "its output is in the log", func() error {
		if text, err := os.ReadFile(log); err != nil || string(text) != "on\n" {
			return errors.New(string(text))
		}
		return nil
	})
	if err := p.Pause(); err != nil || !p.Running() {
		t.Errorf("halted: %v", err)
	}
	if err := p.Resume(); err != nil || p.Err() != nil {
		t.Errorf("resumed: %v, ended with %v", err, p.Err())
	}
	if err := p.Pause(); err != nil {
		t.Error(err)
	}
	if err := p.End(unix.SIGKILL); err != nil || p.Running() || p.Err() == nil {
		t.Errorf("killed while halted: %v, ended with %v", err, p.Err())
	}
	if err := errors.Join(p.End(unix.SIGTERM), (*Process)(nil).End(unix.SIGTERM)); err != nil {
		t.Errorf("ending what has ended: %v", err)
	}
	if err := p.Signal(unix.SIGTERM); !errors.Is(err, ErrEnded) {
		t.Errorf("a signal to what has ended: %v", err)
	}
}

func TestAProgramThatIsNotThereIsAnError(t *testing.T) {
	if _, err := Launch(filepath.Join(t.TempDir(), "log"), exec.Command("/no/such/program")); err == nil {
		t.Error("it was started")
	}
}
