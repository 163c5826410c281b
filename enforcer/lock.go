package enforcer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrRunning says that another enforcer has the data folder or the gate.
var ErrRunning = errors.New("another enforcer is running there")

// locksDir holds a lock for each gate: a BPF file system has no files.
const locksDir = "/run/egresswarden"

// lock claims the data folder and the gate for this process. The kernel lets
// go of them when the process dies.
func (c Config) lock() (release func() error, err error) {
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	data, err := lockFile(filepath.Join(c.Data, "enforcer.lock"))
	if err != nil {
		return nil, fmt.Errorf("data %s: %w", c.Data, err)
	}
	pins, err := lockPins(c.Pins)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pins %s: %w", c.Pins, err), data.Close())
	}
	return func() error { return errors.Join(data.Close(), pins.Close()) }, nil
}

func lockPins(pins string) (*os.File, error) {
	if err := os.MkdirAll(locksDir, 0o755); err != nil {
		return nil, err
	}
	name := sha256.Sum256([]byte(filepath.Clean(pins)))
	return lockFile(filepath.Join(locksDir, fmt.Sprintf("gate-%x.lock", name[:8])))
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrRunning
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}
