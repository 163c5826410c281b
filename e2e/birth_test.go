package e2e

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/cgroup"
	"github.com/egresswarden/egresswarden/internal/testutil/docker"
	"github.com/egresswarden/egresswarden/internal/testutil/probe"
	"github.com/egresswarden/egresswarden/internal/testutil/world"
)

// forbidden is what no policy here admits; eager dials it from its first
// instruction on.
const forbidden = "203.0.113.200:443,[2001:db8:d::5]:53"

func eager(to string) []string {
	return []string{"loop", "-how", "tcp,udp_sendto,udp_connected", "-rounds", "20", "-to", to}
}

// births makes starts and counts them.
type births struct {
	f       *fixture
	started atomic.Int64
}

// each calls fn with 0 to n-1, two at a time, so that starts overlap in Docker
// as they do on a busy host.
func each(n int, fn func(i int)) {
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 2 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				fn(i)
			}
		})
	}
	wg.Wait()
}

// TestBirth holds that the gate judges a container's first instruction, at
// whatever kind of start, with the enforcer alive or dead; and that a container
// which may send never meets a closed gate.
func TestBirth(t *testing.T) {
	f := newFixture(t)
	f.enforcer.start(t)
	f.ready(f.stay("first", "block"))
	never := f.watch(strings.Split(forbidden, ",")...)
	b := &births{f: f}
	for _, kind := range []struct {
		name string
		n    int // 500 in all
		do   func(t *testing.T, n int)
	}{
		{"run", 60, b.run}, {"restart", 80, b.restart}, {"start", 120, b.start}, {"exec", 200, b.exec}, {"scale", 40, b.scale},
	} {
		n := kind.n
		if testing.Short() {
			n /= 10
		}
		t.Run(kind.name, func(t *testing.T) {
			began := time.Now()
			kind.do(t, n)
			nothing(t, never, kind.name)
			t.Logf("%d %ss in %s", n, kind.name, took(began))
		})
	}
	b.report(t)
	t.Run("a child cgroup inherits", func(t *testing.T) { inherits(t, f, never) })
	t.Run("with the enforcer dead", func(t *testing.T) { orphans(t, f, never, 6) })
}

// modes in turn: of every two starts one is blocked, the other may send.
var modes = []string{"block", "learn", "block", "allow", "block", ""}

// begin creates a container whose program is eager, in the mode.
func (b *births) begin(t *testing.T, name, mode string, extra map[string]string) *docker.Container {
	t.Helper()
	to := forbidden
	if mode != "block" {
		to = strings.Join(admitted, ",")
	}
	l := labels(mode)
	for k, v := range extra {
		l[k] = v
	}
	return b.f.docker.Create(t, docker.Spec{Name: name, Labels: l, Cmd: eager(to), Network: "dual"})
}

// judge waits for what a number of runs of the program saw, and looks at each
// attempt.
func judge(t *testing.T, c *docker.Container, mode string, runs int) {
	t.Helper()
	lines := runs * 3 * 2 // ways and destinations
	if mode != "block" {
		lines = runs * 3 * len(admitted)
	}
	var all []probe.Tally
	testutil.Eventually(t, "the output of "+c.Name, func() (err error) {
		all, err = probe.ParseTallies(strings.NewReader(c.Logs(t)))
		if err == nil && len(all) != lines {
			err = fmt.Errorf("%d lines of output, want %d", len(all), lines)
		}
		return err
	})
	for _, tally := range all {
		got := tally.OK
		if mode == "block" {
			got = tally.Denied
		}
		if got != tally.Attempts || got == 0 {
			t.Errorf("%s in mode %q: %+v", c.Name, mode, tally)
		}
	}
}

func (b *births) run(t *testing.T, n int) {
	each(n, func(i int) {
		mode := modes[i%len(modes)]
		c := b.begin(t, fmt.Sprintf("run-%d", i), mode, nil)
		c.Start(t)
		c.Wait(t)
		b.started.Add(1)
		judge(t, c, mode, 1)
		c.Remove(t)
	})
}

// restart uses containers that are running when they are restarted.
func (b *births) restart(t *testing.T, n int) {
	const times = 4
	each(n/times, func(i int) {
		mode := modes[i%len(modes)]
		to := forbidden
		if mode != "block" {
			to = strings.Join(admitted, ",")
		}
		c := b.f.docker.Run(t, docker.Spec{
			Name: fmt.Sprintf("restart-%d", i), Labels: labels(mode), Network: "dual", Cmd: append(eager(to), "-stay"),
		})
		judge(t, c, mode, 1)
		for run := range times - 1 {
			c.Restart(t)
			judge(t, c, mode, run+2)
		}
		b.started.Add(times)
		c.Remove(t)
	})
}

// start uses containers that have ended.
func (b *births) start(t *testing.T, n int) {
	const times = 6
	each(n/times, func(i int) {
		mode := modes[i%len(modes)]
		c := b.begin(t, fmt.Sprintf("start-%d", i), mode, nil)
		for range times {
			c.Start(t)
			c.Wait(t)
		}
		b.started.Add(times)
		judge(t, c, mode, times)
		c.Remove(t)
	})
}

// exec starts the program in a container that runs.
func (b *births) exec(t *testing.T, n int) {
	c := b.f.stay("exec", "block")
	each(n, func(int) {
		b.started.Add(1)
		rs := c.Exec(t, "dial", "-how", "tcp,udp_sendto", "-to", forbidden)
		for _, r := range rs {
			if !r.Denied() {
				t.Error(r)
			}
		}
		if len(rs) != 4 {
			t.Errorf("%d results of 4", len(rs))
		}
	})
}

// scale makes containers as compose does for a service of many.
func (b *births) scale(t *testing.T, n int) {
	each(n, func(i int) {
		mode := modes[i%len(modes)]
		c := b.begin(t, fmt.Sprintf("shop-api-%d", i), mode, map[string]string{
			"com.docker.compose.project":          "shop",
			"com.docker.compose.service":          "api",
			"com.docker.compose.container-number": fmt.Sprint(i + 1),
		})
		c.Start(t)
		c.Wait(t)
		b.started.Add(1)
		judge(t, c, mode, 1)
		c.Remove(t)
	})
}

// report prints how many starts found their container known already.
func (b *births) report(t *testing.T) {
	t.Helper()
	g := b.f.gate(t)
	defer g.Close()
	known, unknown, err := g.Births()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d starts: %d births found their container known, %d did not", b.started.Load(), known, unknown)
}

// inherits starts a process in a cgroup that the container's has got, as a
// container with an engine or an init system inside makes them.
func inherits(t *testing.T, f *fixture, never *world.Capture) {
	c := f.stay("parent", "block")
	f.ready(c)
	g := cgroup.Below(t, c.Pid(t), "init.scope", "nested")
	for _, r := range g.Probe(t, f.world.Host, "dial", "-how", "tcp,udp_sendto", "-to", forbidden) {
		if !r.Denied() {
			t.Error(r)
		}
	}
	for _, r := range g.Probe(t, f.world.Host, "dial", "-to", admitted[0]) {
		if !r.OK {
			t.Error(r)
		}
	}
	nothing(t, never, "from a child cgroup")
}

// orphans starts containers that a dead enforcer knew, and some it never saw.
func orphans(t *testing.T, f *fixture, never *world.Capture, n int) {
	b := &births{f: f}
	var known []*docker.Container
	for i := range n {
		known = append(known, b.begin(t, fmt.Sprintf("known-%d", i), modes[i%len(modes)], nil))
	}
	f.settled(t, known)
	f.enforcer.kill()
	for i, c := range known {
		c.Start(t)
		c.Wait(t)
		judge(t, c, modes[i%len(modes)], 1)
	}
	for i := range n {
		c := b.begin(t, fmt.Sprintf("unseen-%d", i), "block", nil)
		c.Start(t)
		c.Wait(t)
		judge(t, c, "block", 1)
	}
	nothing(t, never, "with the enforcer dead")
	f.enforcer.start(t)
}

// settled waits until the kernel knows the containers.
func (f *fixture) settled(t *testing.T, cs []*docker.Container) {
	t.Helper()
	testutil.Eventually(t, "the gate knows the containers", func() error {
		in := f.gate(t)
		defer in.Close()
		all, err := in.Containers()
		if err != nil {
			return err
		}
		for _, c := range cs {
			if _, ok := all[c.ID]; !ok {
				return fmt.Errorf("%s is not there", c.Name)
			}
		}
		return nil
	})
}
