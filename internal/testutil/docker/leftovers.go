package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/cgroup"
	"golang.org/x/sys/unix"
)

// removeLeftovers ends the processes of an engine whose test did not get to
// stop it, and removes its state. All of them are told by the directories that
// are this package's alone.
func removeLeftovers() error {
	if err := killContainers(); err != nil {
		return err
	}
	return testutil.Poll(context.Background(), testutil.Long, func() error {
		pids, err := enginePids()
		if err != nil {
			return err
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if len(pids) != 0 {
			return fmt.Errorf("processes %v are still there", pids)
		}
		return removeState()
	})
}

func removeState() error {
	for _, dir := range []string{runDir, dataDir} {
		if err := unmountBelow(dir); err != nil {
			return err
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// killContainers kills what runs in the cgroups of the engine's containers.
func killContainers() error {
	root, err := cgroup.Root()
	if err != nil {
		return err
	}
	all, err := filepath.Glob(filepath.Join(dataDir, "docker/containers/*"))
	if err != nil {
		return err
	}
	// Those of an engine with a user namespace are one below.
	remapped, err := filepath.Glob(filepath.Join(dataDir, "docker/*.*/containers/*"))
	if err != nil {
		return err
	}
	for _, container := range append(all, remapped...) {
		id := filepath.Base(container)
		for _, path := range []string{"docker/" + id, "system.slice/docker-" + id + ".scope"} {
			err := os.WriteFile(filepath.Join(root, path, "cgroup.kill"), []byte("1"), 0)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// enginePids are dockerd, containerd and the shims: programs that were given
// a path in runDir.
func enginePids() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		args, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && isEngine(args) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func isEngine(cmdline []byte) bool {
	args := bytes.Split(cmdline, []byte{0})
	name := filepath.Base(string(args[0]))
	if name != "dockerd" && !strings.HasPrefix(name, "containerd") && name != "docker-proxy" {
		return false
	}
	for _, a := range args[1:] {
		if bytes.HasPrefix(a, []byte(runDir+"/")) {
			return true
		}
	}
	return false
}

// unmountBelow takes down what was mounted under dir, the last first.
func unmountBelow(dir string) error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(string(text), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		fields := strings.Fields(lines[i])
		if len(fields) < 5 || !strings.HasPrefix(fields[4], dir+"/") {
			continue
		}
		err := unix.Unmount(fields[4], unix.MNT_DETACH)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", fields[4], err)
		}
	}
	return nil
}
