package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/docker"
	"github.com/egresswarden/egresswarden/internal/testutil/world"
)

// TestConverge puts Docker into every kind of trouble; what the gate does
// comes out right, and is never open meanwhile.
func TestConverge(t *testing.T) {
	f := newFixture(t)
	p := f.docker.NewProxy(t, filepath.Join(f.dir, "docker.sock"))
	f.enforcer.configure(t, f.dir, p.Socket, "")
	f.enforcer.start(t)
	blocked := f.stay("blocked", "block")
	f.ready(blocked)
	never := f.watch(strings.Split(forbidden, ",")...)
	held := func(when string) {
		t.Helper()
		refused(t, blocked, when)
		nothing(t, never, when)
	}
	held("at first")
	t.Run("an empty list changes nothing", func(t *testing.T) {
		p.EmptyLists(1)
		lists := p.Lists()
		p.Cut(t)
		p.Resume(t)
		testutil.Eventually(t, "docker was asked twice", func() error {
			if n := p.Lists() - lists; n < 2 {
				return fmt.Errorf("%d times", n)
			}
			return nil
		})
		held("after an empty list")
		f.passes(t, blocked)
	})
	t.Run("what starts while events are cut is judged after", func(t *testing.T) { cutOff(t, f, p, held) })
	t.Run("docker restarts", func(t *testing.T) {
		f.docker.Restart(t)
		blocked.Running(t)
		held("after docker restarted")
		f.passes(t, blocked)
		late := f.stay("late", "block")
		refused(t, late, "after docker restarted")
		f.passes(t, late)
	})
	t.Run("unknown labels block loudly", func(t *testing.T) { mislabelled(t, f, never) })
	t.Run("a broken allow-list keeps the last good one", func(t *testing.T) { broken(t, f, blocked, held) })
}

// refused holds that a container cannot reach what is forbidden.
func refused(t *testing.T, c *docker.Container, when string) {
	t.Helper()
	rs := c.Exec(t, "dial", "-how", "tcp,udp_sendto", "-to", forbidden)
	for _, r := range rs {
		if !r.Denied() {
			t.Errorf("%s: %s: %v", when, c.Name, r)
		}
	}
	if len(rs) != 4 {
		t.Errorf("%s: %d results of 4", when, len(rs))
	}
}

// passes waits until a container reaches what is admitted.
func (f *fixture) passes(t *testing.T, c *docker.Container) {
	t.Helper()
	testutil.Eventually(t, c.Name+" reaches what is admitted", func() error {
		for _, r := range c.Exec(t, "dial", "-how", "tcp,udp_sendto", "-to", strings.Join(admitted, ",")) {
			if !r.OK {
				return errors.New(r.String())
			}
		}
		return nil
	})
}

func cutOff(t *testing.T, f *fixture, p *docker.Proxy, held func(string)) {
	p.Cut(t)
	blocked, learning, gone := f.stay("cut-block", "block"), f.stay("cut-learn", "learn"), f.stay("cut-gone", "learn")
	held("while events are cut")
	refused(t, blocked, "while events are cut")
	// Nobody knows it yet: the posture is to block.
	refused(t, learning, "while events are cut")
	gone.Remove(t)
	p.Resume(t)
	f.passes(t, blocked)
	f.passes(t, learning)
	refused(t, blocked, "after events are back")
	held("after events are back")
	reached := learning.Exec(t, "dial", "-to", "192.168.7.9:443")
	if len(reached) != 1 || !reached[0].OK {
		t.Errorf("a learning container is blocked: %v", reached)
	}
	f.host(t, "docker.lost", "")
	f.host(t, "docker.back", "")
}

func mislabelled(t *testing.T, f *fixture, never *world.Capture) {
	for i, l := range []map[string]string{
		{"egress": "blok"}, {"egress": ""}, {"egress": "Allow"}, {"egress": "allow", "egress.polcy": web},
	} {
		name := fmt.Sprintf("mislabelled-%d", i)
		c := f.docker.Run(t, docker.Spec{Name: name, Labels: l, Cmd: []string{"stay"}, Network: "dual"})
		refused(t, c, fmt.Sprint(l))
		f.host(t, "label.invalid", name)
	}
	nothing(t, never, "unknown labels")
}

func broken(t *testing.T, f *fixture, c *docker.Container, held func(string)) {
	f.write(web, rules+"203.0.113.200/24  # host bits\n")
	f.host(t, "policy.invalid", "")
	held("with a broken allow-list")
	f.passes(t, c)
	f.write(web, rules+"203.0.113.150/32\n")
	testutil.Eventually(t, "the mended allow-list is in force", func() error {
		r := c.Exec(t, "dial", "-to", "203.0.113.150:443")[0]
		if !r.OK {
			return errors.New(r.String())
		}
		return nil
	})
	held("with a mended allow-list")
}

// host waits for an event of the host, of the container if one is named.
func (f *fixture) host(t *testing.T, kind, container string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Long)
	defer cancel()
	began := time.Now()
	for e, err := range f.enforcer.events(t).HostEvents(ctx, eventlog.HostQuery{Host: host, Follow: true}) {
		if err != nil {
			t.Fatalf("no event %s of %q in %s: %v", kind, container, took(began), err)
		}
		if e.Kind == kind && (container == "" || e.Container == container) {
			return
		}
	}
	t.Fatalf("no event %s of %q in %s", kind, container, took(began))
}
