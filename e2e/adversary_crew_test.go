package e2e

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/adversary"
	"github.com/egresswarden/egresswarden/internal/testutil/build"
	"github.com/egresswarden/egresswarden/internal/testutil/docker"
	"github.com/egresswarden/egresswarden/internal/testutil/world"
	"golang.org/x/sys/unix"
)

// Where the adversary finds itself and its accomplice.
const (
	adversaryPath = "/adversary"
	adversaryDir  = "/egw"
)

// arrival is how long one waits for a frame that may be stopped.
const arrival = 10 * time.Second

// arrivals are the marks seen on the wire.
type arrivals struct {
	mu   sync.Mutex
	seen map[adversary.Mark]int
}

func (a *arrivals) note(all []adversary.Mark) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range all {
		a.seen[m]++
	}
}

func (a *arrivals) count(run, number int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen[adversary.Mark{Run: run, Number: number}]
}

// crew is what all runs share.
type crew struct {
	*fixture
	program   string
	neighbour *docker.Container
	wire      *arrivals
	tap       *world.Tap
	runs      int
}

func newCrew(f *fixture) *crew {
	f.t.Helper()
	c := &crew{
		fixture: f, program: build.Binary(f.t, "internal/testutil/adversary/cmd"),
		wire: &arrivals{seen: map[adversary.Mark]int{}},
	}
	c.neighbour = f.docker.Run(f.t, docker.Spec{Name: "neighbour", Network: "dual", Cmd: []string{"stay"}})
	c.tap = f.world.Tap(f.t, func(frame []byte) {
		c.wire.note(adversary.Find(frame))
	})
	c.abstract()
	// Of the policy that is swapped there is always a container.
	c.docker.Run(f.t, docker.Spec{Name: "holder", Network: "dual", Cmd: []string{"stay"}, Labels: (&hostile{mode: "block"}).labels()})
	g := c.gate(f.t)
	defer g.Close()
	f.t.Logf("what the gate lacks to refuse packet sockets when they are made: %v", g.LacksSocketCreate())
	return c
}

// abstract listens on the host's abstract socket.
func (c *crew) abstract() {
	var l net.Listener
	err := c.world.Host.Do(func() (err error) {
		l, err = net.Listen("unix", adversary.Abstract)
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			text := make([]byte, 64)
			n, _ := conn.Read(text)
			_ = conn.Close()
			c.wire.note(adversary.Find(text[:n]))
		}
	}()
}

// hostile is one run of the adversary in a container of its own.
type hostile struct {
	name, mode string
	verb       string
	args       []string
	// policy is the label egress.policy; empty is adversaryPolicy.
	policy string
	// user is who it is, caps what it has of the techniques' capabilities.
	user string
	caps []string
	// noDNS sets the label egress.dns=deny.
	noDNS bool
	// pause is done half-way.
	pause func()

	run int
	// started is closed when c is known.
	started, paused, resume chan struct{}
	c                       *docker.Container
	reports                 map[int]adversary.Report
}

func (h *hostile) has(capability string) bool {
	return capability == "" || slices.Contains(h.caps, capability)
}

// tries says that the run includes the technique.
func (h *hostile) tries(w adversary.Technique) bool {
	switch w.Phase {
	case adversary.PhaseFirst:
		return true
	case adversary.PhaseStanding:
		return h.verb == "stand"
	case adversary.PhaseAdmin:
		return h.verb == "run" && h.has("NET_ADMIN")
	}
	return h.verb == "run"
}

func (h *hostile) labels() map[string]string {
	l := map[string]string{"egress": h.mode, "egress.policy": cmp.Or(h.policy, adversaryPolicy)}
	if h.noDNS {
		l["egress.dns"] = "deny"
	}
	return l
}

// start starts the run; finish waits for it.
func (c *crew) start(h *hostile) {
	c.t.Helper()
	c.runs++
	h.run, h.reports = c.runs, map[int]adversary.Report{}
	h.started, h.paused, h.resume = make(chan struct{}), make(chan struct{}), make(chan struct{})
	dir := c.t.TempDir()
	outside := c.accomplice(h, filepath.Join(dir, "outside.sock"))
	c.t.Cleanup(func() { _ = outside.Close() })
	settings, err := json.Marshal(adversary.Settings{
		Run:      h.run,
		Allowed4: netip.MustParseAddrPort("203.0.113.5:443"), Allowed6: netip.MustParseAddrPort("[2001:db8:a::5]:443"),
		Gateway4: netip.MustParseAddr("10.203.100.1"), Gateway6: netip.MustParseAddr("fd00:203:1::1"),
		Neighbour4: c.neighbour.Addr(c.t, "dual", 4), Neighbour6: c.neighbour.Addr(c.t, "dual", 6),
		Host4: world.HostAddr4, Outside: adversaryDir + "/outside.sock",
		Admin: h.has("NET_ADMIN"), Pause: h.pause != nil,
		// Before Docker told of it a container is an unknown one, which is told at first
		// what its kernel may send.
		Wait: h.mode == "learn",
	})
	if err != nil {
		c.t.Fatal(err)
	}
	h.c = c.docker.Run(c.t, docker.Spec{
		Name: h.name, Labels: h.labels(), Network: "dual", Cmd: append([]string{h.verb, string(settings)}, h.args...),
		Tweak: func(config *container.Config, host *container.HostConfig) {
			config.Entrypoint = []string{adversaryPath}
			// Signals of the Go scheduler would interrupt system calls.
			config.Env = []string{"GODEBUG=asyncpreemptoff=1"}
			config.User = h.user
			host.Binds = []string{c.program + ":" + adversaryPath + ":ro", dir + ":" + adversaryDir}
			if h.has("NET_ADMIN") {
				host.CapAdd = []string{"NET_ADMIN"}
			}
		},
	})
	close(h.started)
}

// finish waits for the end, and reads the reports.
func (c *crew) finish(h *hostile) {
	c.t.Helper()
	if h.pause != nil {
		select {
		case <-h.paused:
		case <-time.After(testutil.Long):
			c.t.Fatalf("%s does not come to its pause: %s", h.name, h.c.Logs(c.t))
		}
		h.pause()
		close(h.resume)
	}
	h.c.Wait(c.t)
	testutil.Eventually(c.t, "the output of "+h.name, func() error {
		all, err := adversary.Parse(strings.NewReader(h.c.Logs(c.t)))
		for _, r := range all {
			h.reports[r.Number] = r
		}
		for n, w := range adversary.All() {
			if _, ok := h.reports[n]; !ok && h.tries(w) && err == nil {
				err = fmt.Errorf("%s did not report", w)
			}
		}
		return err
	})
}

// accomplice answers what the program asks for, outside.
func (c *crew) accomplice(h *hostile, path string) net.Listener {
	c.t.Helper()
	l, err := net.Listen("unix", path)
	if err == nil {
		err = errors.Join(os.Chmod(path, 0o666), os.Chmod(filepath.Dir(path), 0o755)) //nolint:gosec // a user of the container's
	}
	if err != nil {
		c.t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				c.answer(h, conn.(*net.UnixConn))
			}()
		}
	}()
	return l
}

func (c *crew) answer(h *hostile, conn *net.UnixConn) {
	var r adversary.Request
	if err := json.NewDecoder(conn).Decode(&r); err != nil {
		return
	}
	var oob []byte
	err := c.do(h, r, func(fd int) { oob = unix.UnixRights(fd) }, func() {
		text, _ := json.Marshal(adversary.Answer{})
		_, _, _ = conn.WriteMsgUnix(text, oob, nil)
	})
	if err != nil {
		text, _ := json.Marshal(adversary.Answer{Error: err.Error()})
		_, _ = conn.Write(text)
	}
}

// do does what was asked for, and calls done while what it hands over lives.
func (c *crew) do(h *hostile, r adversary.Request, hand func(fd int), done func()) error {
	switch r.Want {
	case adversary.WantStart:
		<-h.started
		err := c.walled(h.c)
		done()
		return err
	case adversary.WantPause:
		close(h.paused)
		<-h.resume
		done()
		return nil
	case adversary.WantArrival:
		_ = testutil.Poll(c.t.Context(), arrival, func() error {
			if c.wire.count(h.run, r.Number) == 0 {
				return errors.New("not seen")
			}
			return nil
		})
		done()
		return nil
	case adversary.WantSocket:
		return c.world.Host.Do(func() error { return handOver(r, hand, done) })
	case adversary.WantDatagram, adversary.WantStream:
		return c.world.World.Do(func() error {
			network := map[string]string{adversary.WantDatagram: "udp", adversary.WantStream: "tcp"}[r.Want]
			to, err := net.Dial(network, r.To.String())
			if err != nil {
				return err
			}
			defer to.Close()
			if _, err := to.Write([]byte("-")); err != nil {
				return err
			}
			done()
			_, _ = to.Read(make([]byte, 64)) // until it answers or closes
			return nil
		})
	}
	return fmt.Errorf("unknown wish %q", r.Want)
}

// walled waits until the gate knows whose the container's link is.
func (c *crew) walled(of *docker.Container) error {
	g, err := bpf.OpenPinned(pinDir)
	if err != nil {
		return err
	}
	defer g.Close()
	return testutil.Poll(c.t.Context(), testutil.Long, func() error {
		known, err := g.Containers()
		if err != nil {
			return err
		}
		owners, err := g.Devices()
		if err != nil {
			return err
		}
		for _, index := range owners {
			if index != 0 && index == known[of.ID] {
				return nil
			}
		}
		return errors.New("its link is nobody's yet")
	})
}

func handOver(r adversary.Request, hand func(fd int), done func()) error {
	fd, err := unix.Socket(r.Domain, r.Kind|unix.SOCK_CLOEXEC, r.Proto)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if r.To.IsValid() {
		var to unix.Sockaddr = &unix.SockaddrInet6{Addr: r.To.Addr().As16(), Port: int(r.To.Port())}
		if r.To.Addr().Is4() {
			to = &unix.SockaddrInet4{Addr: r.To.Addr().As4(), Port: int(r.To.Port())}
		}
		if err := unix.Connect(fd, to); err != nil {
			return err
		}
	}
	hand(fd)
	done()
	return nil
}
