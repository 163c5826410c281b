package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// start makes a system of the bare kernel and returns the line to the host.
func start() (io.Writer, error) {
	if err := mountAll(); err != nil {
		return os.Stdout, err
	}
	words, err := openLine()
	if err != nil {
		return os.Stdout, err
	}
	return words, errors.Join(unix.Sethostname([]byte("vmtest")), raiseLoopback())
}

func mountAll() error {
	for _, m := range []struct{ kind, at, data string }{
		{"devtmpfs", "/dev", ""},
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"tmpfs", "/tmp", ""},
		{"tmpfs", "/run", ""},
		{"cgroup2", "/sys/fs/cgroup", ""},
		{"bpf", "/sys/fs/bpf", "mode=700"},
		{"tracefs", "/sys/kernel/tracing", ""},
	} {
		if err := unix.Mount(m.kind, m.at, m.kind, 0, m.data); err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.kind, m.at, err)
		}
	}
	return nil
}

// openLine opens the serial line to the host, which passes bytes as they are.
func openLine() (*os.File, error) {
	const path = "/dev/ttyS1"
	line, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(line.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	return line, unix.IoctlSetTermios(int(line.Fd()), unix.TCSETS, t)
}

func raiseLoopback() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
}
