package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/build"
	"github.com/egresswarden/egresswarden/internal/testutil/docker"
	"github.com/egresswarden/egresswarden/internal/testutil/world"
)

// loopHost is what egw up calls this host, and loopPins are its gate's.
const (
	loopHost = "loop"
	loopPins = "/sys/fs/bpf/egwtest-up"
)

// up is a host on which everything runs by egw up.
type up struct {
	world   *world.World
	docker  *docker.Daemon
	program string
	socket  string
	logFile string

	cmd  *exec.Cmd
	done chan struct{}
}

// newUp starts egw up on the world's host, with more flags if given, and takes
// everything down when the test ends.
func newUp(t *testing.T, flags ...string) *up {
	t.Helper()
	return newUpOn(t, nil, flags...)
}

// newUpOn is newUp on an engine with options.
func newUpOn(t *testing.T, options []docker.Option, flags ...string) *up {
	t.Helper()
	testutil.Privileged(t)
	off := func() {
		if _, err := bpf.Detach(loopPins); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("detach: %v", err)
		}
		_ = os.Remove(loopPins)
	}
	off() // what a crashed test left
	t.Cleanup(off)
	w := world.New(t)
	dir := t.TempDir()
	u := &up{
		world: w, docker: docker.Start(t, w, options...), program: build.Binary(t, "cmd/egw"),
		socket: filepath.Join(dir, "nats.sock"), logFile: filepath.Join(dir, "up.log"),
	}
	u.docker.DualNetwork(t, "dual")
	u.start(t, dir, flags)
	return u
}

func (u *up) start(t *testing.T, dir string, flags []string) {
	t.Helper()
	log, err := os.Create(u.logFile)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	args := append([]string{
		"up", "--host", loopHost, "--data", filepath.Join(dir, "data"), "--pins", loopPins, "--policies", filepath.Join(dir, "policies"),
		"--docker", "unix://" + u.docker.Socket, "--socket", u.socket, "--listen", "",
	}, flags...)
	u.cmd, u.done = exec.Command(u.program, args...), make(chan struct{})
	u.cmd.Stdout, u.cmd.Stderr = log, log
	if err := u.world.Host.Start(u.cmd); err != nil {
		t.Fatalf("start egw up: %v", err)
	}
	go func() {
		_ = u.cmd.Wait()
		close(u.done)
	}()
	t.Cleanup(func() {
		_ = u.cmd.Process.Kill()
		<-u.done
		if t.Failed() {
			text := u.log()
			t.Logf("end of the log of egw up:\n%s", text[max(0, len(text)-16<<10):])
		}
	})
	testutil.Eventually(t, "egw up greets", func() error {
		select {
		case <-u.done:
			t.Fatalf("egw up ended: %v\n%s", u.cmd.ProcessState, u.log())
		default:
		}
		if !bytes.Contains(u.log(), []byte("label a container egress=learn")) {
			return errors.New("not yet")
		}
		return nil
	})
}

func (u *up) log() []byte {
	text, err := os.ReadFile(u.logFile)
	if err != nil {
		return []byte(err.Error())
	}
	return text
}

// stop interrupts egw up, which ends in good order.
func (u *up) stop(t *testing.T) {
	t.Helper()
	if err := u.cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, "egw up ends when interrupted", func() error {
		select {
		case <-u.done:
			return nil
		default:
			return errors.New("it runs")
		}
	})
	if code := u.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("egw up ended with %d", code)
	}
}

// egw runs a command and gives what it wrote. The test fails unless the
// command exits with 0.
func (u *up) egw(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Long)
	defer cancel()
	c := exec.CommandContext(ctx, u.program, append([]string{"--nats", "unix://" + u.socket}, args...)...)
	var out, errs bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &errs
	if err := errors.Join(u.world.Host.Start(c), c.Wait()); err != nil {
		t.Fatalf("egw %s: %v\n%s%s", strings.Join(args, " "), err, &out, &errs)
	}
	return out.String()
}

// events connects to the event log, as egw does.
func (u *up) events(t *testing.T) *eventlog.Log {
	t.Helper()
	l, err := eventlog.Connect(context.WithoutCancel(t.Context()), eventlog.Options{URL: "unix://" + u.socket, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// covered waits until the enforcer knows a container.
func (u *up) covered(t *testing.T, name string) {
	t.Helper()
	testutil.Eventually(t, "the enforcer knows "+name, func() error {
		if text := u.egw(t, "", "workloads", "-o", "json"); !strings.Contains(text, fmt.Sprintf("%q", name)) {
			return errors.New(text)
		}
		return nil
	})
}

// revision is that of the policy log.
func (u *up) revision(t *testing.T) uint64 {
	t.Helper()
	last := uint64(0)
	for e, err := range u.events(t).PolicyEvents(t.Context(), 0, false) {
		if err != nil {
			t.Fatal(err)
		}
		last = e.Revision
	}
	return last
}

func addrPort(t *testing.T, text string) netip.AddrPort {
	t.Helper()
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func addresses(all []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range all {
		a := netip.MustParseAddrPort(text).Addr()
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}
