package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/egresswarden/egresswarden/internal/vmtest"
	"golang.org/x/sys/unix"
)

// disk is where the initramfs mounts the system's root.
const disk = "/root"

// switchRoot mounts the disk, puts the files for it in place, and becomes the
// system's own first process.
func switchRoot(device string) error {
	if err := unix.Mount(device, disk, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	if err := putInPlace(); err != nil {
		return err
	}
	// What is mounted here is in the way of what systemd mounts.
	for _, at := range []string{"/sys/kernel/tracing", "/sys/fs/bpf", "/sys/fs/cgroup", "/sys", "/proc", "/run", "/tmp"} {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", at, err)
		}
	}
	if err := unix.Mount("/dev", disk+"/dev", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move /dev: %w", err)
	}
	if err := os.Chdir(disk); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := errors.Join(unix.Chroot("."), os.Chdir("/")); err != nil {
		return err
	}
	return unix.Exec("/sbin/init", []string{"/sbin/init"}, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"})
}

// putInPlace copies the files that came along, on the first boot with them,
// over those of an earlier run on the same disk.
func putInPlace() error {
	const plan = vmtest.SystemDir + "/" + vmtest.PlanFile
	files := os.DirFS("/" + vmtest.ForDisk)
	brought, err := fs.ReadFile(files, plan[1:])
	if err != nil {
		return err
	}
	there, err := os.ReadFile(disk + plan)
	if err == nil && bytes.Equal(there, brought) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(disk + vmtest.SystemDir); err != nil {
		return err
	}
	err = fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if err := os.Remove(filepath.Join(disk, path)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	return errors.Join(err, os.CopyFS(disk, files))
}

// boot runs the program of this boot, and has the machine boot again or, after
// the last, power off.
func boot() error {
	words, err := openLine()
	if err != nil {
		return err
	}
	plan, err := readPlan(vmtest.SystemDir + "/")
	if err != nil {
		return err
	}
	n, err := countBoot(vmtest.SystemDir + "/boots")
	if err != nil {
		return err
	}
	if n < len(plan.Programs) {
		run(plan.Programs[n], words)
	}
	verb := "reboot"
	if n+1 >= len(plan.Programs) {
		fmt.Fprintln(words, vmtest.SayDone)
		verb = "poweroff"
	}
	return exec.Command("systemctl", verb).Run()
}

// countBoot returns how many boots there were before this one.
func countBoot(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	n := 0
	if len(text) > 0 {
		if n, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
			return 0, err
		}
	}
	return n, os.WriteFile(file, fmt.Appendln(nil, n+1), 0o644)
}
