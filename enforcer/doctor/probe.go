package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/policy"
)

// refusedWord is what the probe prints when the gate refused it.
const refusedWord = "refused"

// Dial connects UDP sockets to documentation addresses of both families, which
// sends no packet, and tells what the gate answered. It is the body of the
// probe's process.
func Dial() string {
	if err := dial(unix.AF_INET, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{192, 0, 2, 1}}); !refused(err) {
		return fmt.Sprintf("IPv4 not refused: %v", err)
	}
	v6 := &unix.SockaddrInet6{Port: 9, Addr: [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}}
	if err := dial(unix.AF_INET6, v6); !refused(err) && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Sprintf("IPv6 not refused: %v", err)
	}
	return refusedWord
}

func dial(family int, to unix.Sockaddr) error {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, to)
}

func refused(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) }

// probe proves that a denial happens: it lets a process dial that is born in a
// cgroup which the gate blocks.
func probe(ctx context.Context, o Options) Check {
	said, err := runProbe(ctx, o)
	switch {
	case err != nil:
		return Check{"probe", Fail, err.Error(), "start the enforcer, and run the doctor as root"}
	case said != refusedWord:
		return Check{"probe", Fail, "a process in a blocked cgroup was let through: " + said, "see which programs share the cgroup: bpftool cgroup tree"}
	}
	return Check{Name: "probe", Level: OK, Detail: "a process in a blocked cgroup was refused, IPv4 and IPv6"}
}

func runProbe(ctx context.Context, o Options) (said string, err error) {
	gate, err := bpf.OpenPinned(o.Pins)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, gate.Close()) }()
	root, err := o.root()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(root, "egw-doctor-")
	if err != nil {
		return "", fmt.Errorf("make a cgroup for the probe: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Rmdir(dir)) }()
	id, err := bpf.CgroupID(dir)
	if err != nil {
		return "", err
	}
	if err := gate.SetState(gate.ProbeIndex(), bpf.State{Mode: policy.ModeBlock}); err != nil {
		return "", err
	}
	if err := gate.PutCgroup(id, gate.ProbeIndex()); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, gate.RemoveCgroup(id)) }()
	return runIn(ctx, dir, o.Probe)
}

// runIn runs a command that is born in a cgroup, and gives what it printed.
func runIn(ctx context.Context, cgroup string, argv []string) (string, error) {
	dir, err := os.Open(filepath.Clean(cgroup))
	if err != nil {
		return "", err
	}
	defer dir.Close()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("run the probe: %w: %s", err, stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}
