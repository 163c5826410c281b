package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/docker/go-connections/nat"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/probe"
)

// stopSeconds is what a container gets to end itself before it is killed.
const stopSeconds = 1

// Spec says what to run: the probe program with Cmd as its arguments.
type Spec struct {
	Name   string
	Labels map[string]string
	Cmd    []string
	// Network is a network's name; empty is the default bridge.
	Network string
	// Publish maps ports such as "7/udp" to the same number on the host.
	Publish []string
	// Restart: the engine starts the container again when it starts itself.
	Restart bool
	// Tweak changes what Spec has no word for.
	Tweak func(*container.Config, *container.HostConfig)
}

// Container is one of the engine's.
type Container struct {
	ID, Name string

	d *Daemon
}

// Create makes a container that is removed when the test ends.
func (d *Daemon) Create(t testing.TB, s Spec) *Container {
	t.Helper()
	seconds := stopSeconds
	c := &container.Config{Image: Image, Cmd: s.Cmd, Labels: s.Labels, StopTimeout: &seconds, ExposedPorts: nat.PortSet{}}
	h := &container.HostConfig{
		NetworkMode:  container.NetworkMode(s.Network),
		PortBindings: nat.PortMap{},
		// io_uring is not in the default profile of every engine.
		SecurityOpt: []string{"seccomp=unconfined"},
	}
	for _, p := range s.Publish {
		c.ExposedPorts[nat.Port(p)] = struct{}{}
		h.PortBindings[nat.Port(p)] = []nat.PortBinding{{HostPort: nat.Port(p).Port()}}
	}
	if s.Restart {
		h.RestartPolicy.Name = container.RestartPolicyAlways
	}
	if s.Tweak != nil {
		s.Tweak(c, h)
	}
	r, err := d.Client.ContainerCreate(t.Context(), c, h, nil, nil, s.Name)
	if err != nil {
		t.Fatalf("create container %s: %v", s.Name, err)
	}
	made := &Container{r.ID, s.Name, d}
	t.Cleanup(func() { made.Remove(t) })
	return made
}

// Run creates and starts a container.
func (d *Daemon) Run(t testing.TB, s Spec) *Container {
	t.Helper()
	c := d.Create(t, s)
	c.Start(t)
	return c
}

// Start starts the container, again if it ended.
func (c *Container) Start(t testing.TB) {
	t.Helper()
	c.check(t, "start", c.d.Client.ContainerStart(t.Context(), c.ID, container.StartOptions{}))
}

// Restart stops and starts the container.
func (c *Container) Restart(t testing.TB) {
	t.Helper()
	c.check(t, "restart", c.d.Client.ContainerRestart(t.Context(), c.ID, container.StopOptions{}))
}

// Stop ends the container with SIGTERM.
func (c *Container) Stop(t testing.TB) {
	t.Helper()
	c.check(t, "stop", c.d.Client.ContainerStop(t.Context(), c.ID, container.StopOptions{}))
}

// Remove kills and removes the container; once it is gone, nothing.
func (c *Container) Remove(t testing.TB) {
	t.Helper()
	// Not t.Context, which has ended when cleanups run.
	err := c.d.Client.ContainerRemove(context.Background(), c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsConflict(err) && !client.IsErrConnectionFailed(err) {
		t.Errorf("remove container %s: %v", c.Name, err)
	}
}

// Wait returns when the container has ended.
func (c *Container) Wait(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Long)
	defer cancel()
	ended, errs := c.d.Client.ContainerWait(ctx, c.ID, container.WaitConditionNotRunning)
	select {
	case <-ended:
	case err := <-errs:
		c.check(t, "wait for", err)
	}
}

// Pid is the number of the container's first process.
func (c *Container) Pid(t testing.TB) int {
	t.Helper()
	r, err := c.d.Client.ContainerInspect(t.Context(), c.ID)
	c.check(t, "inspect", err)
	return r.State.Pid
}

// Running waits until the container runs, as it soon does after the engine has
// restarted.
func (c *Container) Running(t testing.TB) {
	t.Helper()
	testutil.Eventually(t, "container "+c.Name+" runs", func() error {
		r, err := c.d.Client.ContainerInspect(t.Context(), c.ID)
		if err == nil && !r.State.Running {
			err = errors.New(r.State.Status)
		}
		return err
	})
}

// Addr is the container's address on the network, of the family 4 or 6.
func (c *Container) Addr(t testing.TB, net string, family int) netip.Addr {
	t.Helper()
	r, err := c.d.Client.ContainerInspect(t.Context(), c.ID)
	c.check(t, "inspect", err)
	if net == "" {
		net = network.NetworkBridge
	}
	e := r.NetworkSettings.Networks[net]
	if e == nil {
		t.Fatalf("container %s is not on network %s", c.Name, net)
	}
	text := e.IPAddress
	if family == 6 {
		text = e.GlobalIPv6Address
	}
	a, err := netip.ParseAddr(text)
	c.check(t, fmt.Sprintf("read IPv%d address of", family), err)
	return a
}

// Logs is what the container's program wrote to its standard output.
func (c *Container) Logs(t testing.TB) string {
	t.Helper()
	r, err := c.d.Client.ContainerLogs(t.Context(), c.ID, container.LogsOptions{ShowStdout: true})
	c.check(t, "read logs of", err)
	defer r.Close()
	var out, errs bytes.Buffer
	_, err = stdcopy.StdCopy(&out, &errs, r)
	c.check(t, "read logs of", err)
	return out.String()
}

// Exec runs the probe program inside with other arguments.
func (c *Container) Exec(t testing.TB, args ...string) []probe.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Long)
	defer cancel()
	e, err := c.d.Client.ContainerExecCreate(ctx, c.ID, container.ExecOptions{
		Cmd: append([]string{"/probe"}, args...), AttachStdout: true, AttachStderr: true,
	})
	c.check(t, "exec in", err)
	a, err := c.d.Client.ContainerExecAttach(ctx, e.ID, container.ExecAttachOptions{})
	c.check(t, "exec in", err)
	defer a.Close()
	stop := context.AfterFunc(ctx, a.Close)
	defer stop()
	var out, errs bytes.Buffer
	if _, err = stdcopy.StdCopy(&out, &errs, a.Reader); err != nil || errs.Len() != 0 {
		t.Fatalf("exec %v in %s: %v: %s", args, c.Name, err, &errs)
	}
	rs, err := probe.Parse(&out)
	c.check(t, "exec in", err)
	return rs
}

func (c *Container) check(t testing.TB, verb string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s container %s: %v", verb, c.Name, err)
	}
}
