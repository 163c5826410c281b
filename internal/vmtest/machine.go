package vmtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// suiteTimeout bounds a test binary, machineTimeout a machine: qemu
	// computes every instruction, some ten times slower than the processor.
	suiteTimeout   = 40 * time.Minute
	machineTimeout = 90 * time.Minute

	// commandLine is the kernel's. The units are those of a system on a disk.
	commandLine = "console=ttyS0 quiet panic=-1 rdinit=/init systemd.wants=vmtest-sink.service systemd.wants=vmtest.service"
)

// Run boots the kernel, runs the suites in it, writes a line per test, and
// returns what became of them.
func Run(ctx context.Context, k Kernel, s Sources, suites []Suite, out io.Writer) (*Report, error) {
	r := &Report{Skips: KnownSkips[k.Series]}
	for _, suite := range suites {
		r.Selected = r.Selected || suite.Run != ""
	}
	fill := func(ctx context.Context, file string) error { return writeInitramfs(ctx, file, k, s, suites) }
	return r, r.run(ctx, k, fill, out, "-no-reboot")
}

// run boots a kernel with what fill writes as its first file system.
func (r *Report) run(ctx context.Context, k Kernel, fill func(context.Context, string) error, out io.Writer, flags ...string) error {
	ctx, cancel := context.WithTimeout(ctx, machineTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "egw-vmtest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root, console := filepath.Join(dir, "initramfs"), filepath.Join(dir, "console")
	if err := fill(ctx, root); err != nil {
		return fmt.Errorf("initramfs for %s: %w", k.Release, err)
	}
	qemu := machine(ctx, console)
	qemu.Args = append(qemu.Args, "-kernel", k.Image(), "-initrd", root, "-append", commandLine)
	qemu.Args = append(qemu.Args, flags...)
	if err := r.follow(qemu, out, k.Series); err != nil {
		return fmt.Errorf("run kernel %s: %w", k.Release, err)
	}
	if ctx.Err() != nil {
		r.problem("stopped: %v", context.Cause(ctx))
	}
	return r.readConsole(console, out)
}

// machine is qemu with two processors and serial lines: the kernel's console in
// a file, and the guest's own words on stdout. It has no network, and dies with
// this process.
func machine(ctx context.Context, console string) *exec.Cmd {
	c := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-nodefaults", "-no-user-config", "-display", "none",
		"-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2", "-m", "1536",
		"-serial", "file:"+console, "-serial", "stdio")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.Stderr = os.Stderr
	return c
}

// follow reads the machine's words to its end.
func (r *Report) follow(qemu *exec.Cmd, out io.Writer, name string) error {
	words, err := qemu.StdoutPipe()
	if err != nil {
		return err
	}
	if err := qemu.Start(); err != nil {
		return err
	}
	err = r.Read(words, out, name)
	var exit *exec.ExitError
	if end := qemu.Wait(); end != nil && !errors.As(end, &exit) {
		return errors.Join(err, end)
	} else if end != nil {
		r.problem("qemu: %v", end)
	}
	r.Processor = qemu.ProcessState.UserTime() + qemu.ProcessState.SystemTime()
	return err
}

// readConsole looks for a panic, and shows the kernel's log if all is not well.
func (r *Report) readConsole(file string, out io.Writer) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := r.Console(f); err != nil {
		return err
	}
	if len(r.Problems) == 0 {
		return nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	fmt.Fprintln(out, "-- the kernel's log")
	_, err = io.Copy(out, f)
	return err
}
