// Package docker runs a Docker engine of the tests' own, in the test network,
// apart from any engine of the machine: they may restart it.
package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/docker/docker/client"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/world"
	"golang.org/x/sys/unix"
)

// Where the engine keeps its state. The paths are fixed, so that the leftovers
// of a test that crashed are found; see package testutil for the lock.
const (
	runDir  = "/run/egwtest"
	dataDir = "/var/lib/egwtest"
)

// Addresses that the engine gives out, within world.Pool4 and world.Pool6.
const (
	bridgeAddress = "10.203.0.1/24"
	networkPool   = "base=10.203.128.0/17,size=24"
	nameServer    = "203.0.113.53"
)

const containerdConfig = `version = 2
root = "` + dataDir + `/containerd"
state = "` + runDir + `/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "` + runDir + `/containerd.sock"
`

// Daemon is a running engine with containerd. Client speaks to it at Socket.
type Daemon struct {
	Client *client.Client
	Socket string

	world      *world.World
	remapped   bool
	containerd *process
	dockerd    *process
}

// Start runs an engine until the test ends. The image Image is loaded.
func Start(t testing.TB, w *world.World, options ...Option) *Daemon {
	t.Helper()
	if err := removeLeftovers(); err != nil {
		t.Fatalf("remove an earlier engine: %v", err)
	}
	d := &Daemon{Socket: filepath.Join(runDir, "docker.sock"), world: w}
	for _, o := range options {
		o(d)
	}
	t.Cleanup(func() { d.stop(t) })
	if err := d.start(t.Context()); err != nil {
		t.Fatalf("start docker: %v\n%s", err, d.Log())
	}
	if err := d.loadImage(t); err != nil {
		t.Fatalf("load image %s: %v", Image, err)
	}
	return d
}

func (d *Daemon) start(ctx context.Context) error {
	mode := fs.FileMode(0o700)
	if d.remapped { // root of a container is nobody's on the way to its files
		mode = 0o711
	}
	for _, dir := range []string{runDir, dataDir} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return err
		}
	}
	config := filepath.Join(runDir, "containerd.toml")
	err := errors.Join(
		os.WriteFile(filepath.Join(runDir, "subid"), []byte(subordinate), 0o644),
		os.WriteFile(config, []byte(containerdConfig), 0o600),
		os.WriteFile(filepath.Join(runDir, "daemon.json"), []byte("{}"), 0o600))
	if err != nil {
		return err
	}
	if !d.remapped { // else the engine has its own, in its own mount namespace
		if err := d.startContainerd(ctx, config); err != nil {
			return err
		}
	}
	d.Client, err = client.NewClientWithOpts(
		client.WithHost("unix://"+d.Socket), client.WithAPIVersionNegotiation())
	if err != nil {
		return err
	}
	return d.startDocker(ctx)
}

func (d *Daemon) startContainerd(ctx context.Context, config string) (err error) {
	if d.containerd, err = d.launch("containerd", "containerd", "--config", config); err != nil {
		return err
	}
	return testutil.Poll(ctx, testutil.Long, func() error {
		_, err := os.Stat(filepath.Join(runDir, "containerd.sock"))
		return err
	})
}

// command is the engine's command line.
func (d *Daemon) command() []string {
	args := []string{
		"dockerd",
		"--config-file", filepath.Join(runDir, "daemon.json"),
		"--data-root", filepath.Join(dataDir, "docker"),
		"--exec-root", filepath.Join(runDir, "exec"),
		"--pidfile", filepath.Join(runDir, "docker.pid"),
		"--host", "unix://" + d.Socket,
		// Works with systemd and without.
		"--exec-opt", "native.cgroupdriver=cgroupfs",
		"--bip", bridgeAddress, "--default-address-pool", networkPool, "--dns", nameServer,
	}
	if d.remapped {
		return remappedCommand(args)
	}
	return append(args, "--containerd", filepath.Join(runDir, "containerd.sock"))
}

func (d *Daemon) startDocker(ctx context.Context) (err error) {
	d.dockerd, err = d.launch("dockerd", d.command()...)
	if err != nil {
		return err
	}
	return testutil.Poll(ctx, testutil.Long, func() error {
		select {
		case <-d.dockerd.done:
			return fmt.Errorf("dockerd ended: %w", d.dockerd.err)
		default:
		}
		_, err := d.Client.Ping(ctx)
		return err
	})
}

// Restart stops the engine, and with it its containers, and starts it again,
// and with it the containers that have a restart policy.
func (d *Daemon) Restart(t testing.TB) {
	t.Helper()
	d.Stop(t)
	d.Resume(t)
}

// Stop ends the engine in good order.
func (d *Daemon) Stop(t testing.TB) {
	t.Helper()
	if err := d.dockerd.end(unix.SIGTERM); err != nil {
		t.Fatalf("stop dockerd: %v\n%s", err, d.Log())
	}
}

// Resume starts the engine after Stop.
func (d *Daemon) Resume(t testing.TB) {
	t.Helper()
	if err := d.startDocker(t.Context()); err != nil {
		t.Fatalf("start dockerd: %v\n%s", err, d.Log())
	}
}

// Log is the end of what the engine wrote.
func (d *Daemon) Log() string {
	const most = 8 << 10
	text, err := os.ReadFile(filepath.Join(runDir, "dockerd.log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

func (d *Daemon) stop(t testing.TB) {
	for _, p := range []*process{d.dockerd, d.containerd} {
		if p == nil {
			continue
		}
		if err := p.end(unix.SIGTERM); err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.Logf("end of dockerd's log:\n%s", d.Log())
	}
	if err := removeLeftovers(); err != nil {
		t.Errorf("remove the engine's state: %v", err)
	}
}

// process is a daemon with its log in a file.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

func (d *Daemon) launch(name string, command ...string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(runDir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{name: name, cmd: exec.Command(command[0], command[1:]...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = io.Writer(log), io.Writer(log)
	if err := d.world.Host.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// end sends the signal and waits, at last with SIGKILL.
func (p *process) end(sig unix.Signal) error {
	_ = unix.Kill(p.cmd.Process.Pid, sig)
	err := testutil.Poll(context.Background(), testutil.Long, func() error {
		select {
		case <-p.done:
			return nil
		default:
			return fmt.Errorf("%s does not end", p.name)
		}
	})
	if err != nil {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	return err
}
