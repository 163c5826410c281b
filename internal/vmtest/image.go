package vmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// packages are what the system has besides a minimal Debian 12. Its engine is
// Debian's, with the cgroup driver of systemd.
const packages = "systemd,systemd-sysv,udev,dbus,docker.io,iptables,iproute2,kmod,procps,apparmor,ca-certificates"

const imageBytes = 4 << 30

// Image returns the disk image of a Debian 12 system with systemd, Docker and
// the kernel's modules, made unless it is cached. It needs root.
func Image(ctx context.Context, k Kernel) (string, error) {
	cache, err := cacheDir("images")
	if err != nil {
		return "", err
	}
	file := filepath.Join(cache, "debian-12-"+k.Release+".ext4")
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		return file, err
	}
	aside, err := os.MkdirTemp(cache, "make-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(aside)
	root := filepath.Join(aside, "root")
	if err := debootstrap(ctx, root); err != nil {
		return "", fmt.Errorf("make a Debian system: %w", err)
	}
	if err := furnish(ctx, k, root); err != nil {
		return "", fmt.Errorf("furnish the Debian system: %w", err)
	}
	next := filepath.Join(aside, "image")
	if err := makeFileSystem(ctx, root, next); err != nil {
		return "", err
	}
	return file, os.Rename(next, file)
}

func debootstrap(ctx context.Context, root string) error {
	return retry(ctx, func() error {
		if err := os.RemoveAll(root); err != nil {
			return err
		}
		return command(ctx, "", "debootstrap", "--variant=minbase", "--include="+packages, "bookworm", root)
	})
}

// furnish adds the modules, and leaves out what would wait for hardware.
func furnish(ctx context.Context, k Kernel, root string) error {
	modules := filepath.Join("lib", "modules", k.Release)
	if err := os.MkdirAll(filepath.Join(root, "lib", "modules"), 0o755); err != nil {
		return err
	}
	if err := command(ctx, "", "cp", "-a", filepath.Join(k.dir, modules), filepath.Join(root, modules)); err != nil {
		return err
	}
	for file, text := range map[string]string{
		"etc/fstab": "/dev/vda / ext4 defaults 0 0\n", "etc/hostname": "debian\n", "etc/machine-id": "",
		"etc/hosts": "127.0.0.1 localhost debian\n::1 localhost\n",
	} {
		if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return command(ctx, "", "systemctl", "--root="+root, "mask", "serial-getty@ttyS0.service", "getty@tty1.service",
		"apt-daily.timer", "apt-daily-upgrade.timer", "systemd-timesyncd.service")
}

func makeFileSystem(ctx context.Context, root, file string) error {
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		return err
	}
	if err := os.Truncate(file, imageBytes); err != nil {
		return err
	}

	return command(ctx, "", "mke2fs", "-q", "-t", "ext4", "-d", root, file)
}
