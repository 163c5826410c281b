// Package testutil holds what every test of the kernel side needs: leave to
// run with privilege, one test binary at a time, and waiting without sleeping.
package testutil

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// LockFile is held for the life of a test binary that runs with privilege:
// such tests share the kernel's hooks, the namespaces' names and a Docker
// engine, so only one binary may be at it.
const LockFile = "/run/egwtest.lock"

// Long is the deadline for what happens soon on any machine that works at all.
const Long = 4 * time.Minute

var lock = sync.OnceValue(func() error {
	fd, err := unix.Open(LockFile, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", LockFile, err)
	}
	for {
		// The descriptor stays open, and so the lock held, until the exit.
		if err = unix.Flock(fd, unix.LOCK_EX); err != unix.EINTR {
			return err
		}
	}
})

// Privileged lets a test go on that needs root, BPF or Docker. Without
// EGW_PRIVILEGED=1 it skips, or with CI=1, where a skip is a hole, fails.
func Privileged(t testing.TB) {
	t.Helper()
	if os.Getenv("EGW_PRIVILEGED") != "1" {
		Skip(t, "needs root: set EGW_PRIVILEGED=1")
	}
	if os.Geteuid() != 0 {
		t.Fatal("EGW_PRIVILEGED=1, but the test does not run as root")
	}
	if err := lock(); err != nil {
		t.Fatalf("lock %s: %v", LockFile, err)
	}
}

// Skip skips the test with a reason; with CI=1 it fails it.
func Skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "1" {
		t.Fatalf("a skip is a failure with CI=1: %s", reason)
	}
	t.Skip(reason)
}
