package docker

import (
	"errors"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/client"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/probe"
	"github.com/egresswarden/egresswarden/internal/testutil/world"
)

func TestDaemon(t *testing.T) {
	w := world.New(t)
	d := Start(t, w)
	d.DualNetwork(t, "dual")
	c := d.Run(t, Spec{Name: "stay", Cmd: []string{"stay"}, Network: "dual", Restart: true})

	t.Run("a container reaches the world in both families", func(t *testing.T) { reaches(t, c) })
	t.Run("a container is reached from outside and by its neighbour", func(t *testing.T) {
		served(t, w, d, c)
	})
	t.Run("a program's output is read after its end", func(t *testing.T) {
		c := d.Run(t, Spec{Name: "once", Cmd: []string{"loop", "-rounds", "1", "-to", "203.0.113.5:80"}})
		c.Wait(t)
		testutil.Eventually(t, "the output is there", func() error {
			if c.Logs(t) == "" {
				return errEmpty
			}
			return nil
		})
	})
	t.Run("containers come back with the engine", func(t *testing.T) {
		before := c.Pid(t)
		d.Restart(t)
		c.Running(t)
		if c.Pid(t) == before {
			t.Error("the same process runs")
		}
		reaches(t, c)
	})
	t.Run("the proxy cuts, resumes and empties lists", func(t *testing.T) { proxied(t, d) })
}

var errEmpty = errors.New("nothing was written")

func reaches(t *testing.T, c *Container) {
	t.Helper()
	for _, r := range c.Exec(t, "dial", "-how", "tcp,udp_sendto,tcp_uring", "-to", "203.0.113.5:80,[2001:db8::5]:80") {
		if !r.OK && !r.Unavailable {
			t.Error(r)
		}
	}
}

func served(t *testing.T, w *world.World, d *Daemon, neighbour *Container) {
	s := d.Run(t, Spec{
		Name: "serve", Cmd: []string{"serve", "-port", "9000"}, Network: "dual",
		Publish: []string{"9000/tcp", "9000/udp"},
	})
	six := netip.AddrPortFrom(s.Addr(t, "dual", 6), 9000)
	testutil.Eventually(t, "the server listens", func() error {
		if s.Logs(t) == "" {
			return errEmpty
		}
		return nil
	})
	for _, to := range []netip.AddrPort{netip.AddrPortFrom(world.HostAddr4, 9000), six} {
		for _, how := range []string{"tcp", "udp_connected"} {
			err := w.World.Do(func() error {
				if r := probe.Dial(how, to, time.Minute); !r.OK {
					t.Error(r)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, r := range neighbour.Exec(t, "dial", "-how", "tcp,udp_sendto", "-to", six.String()) {
		if !r.OK {
			t.Error(r)
		}
	}
}

func proxied(t *testing.T, d *Daemon) {
	p := d.NewProxy(t, filepath.Join(t.TempDir(), "proxy.sock"))
	c, err := client.NewClientWithOpts(client.WithHost("unix://"+p.Socket), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, errs := c.Events(t.Context(), events.ListOptions{})
	p.EmptyLists(1)
	for want := range 2 {
		l, err := c.ContainerList(t.Context(), container.ListOptions{})
		if err != nil || min(len(l), 1) != want {
			t.Fatalf("%d containers, want %d at least: %v", len(l), want, err)
		}
	}
	p.Cut(t)
	if err := <-errs; err == nil {
		t.Error("the event stream ended without an error")
	}
	if _, err := c.Ping(t.Context()); err == nil {
		t.Error("the engine answers through a cut proxy")
	}
	p.Resume(t)
	if _, err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}
