package e2e

import (
	"errors"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/adversary"
	"github.com/egresswarden/egresswarden/internal/testutil/docker"
	"github.com/egresswarden/egresswarden/operator"
	"github.com/egresswarden/egresswarden/policy"
)

// The policies of the hostile containers: one destination is allowed, in both
// families.
const (
	adversaryRules  = "203.0.113.5 tcp/443,udp/443\n2001:db8:a::5 tcp/443,udp/443\n"
	adversaryPolicy = "adversary"
	standingPolicy  = "standing"
)

// who lists the kinds of hostile processes.
var who = []hostile{
	{name: "root", verb: "run", caps: []string{"NET_RAW"}},
	{name: "user", verb: "run", user: "1000:1000", noDNS: true},
	{name: "admin", verb: "run", caps: []string{"NET_RAW", "NET_ADMIN"}},
	{name: "standing", verb: "stand", policy: standingPolicy, caps: []string{"NET_RAW"}},
}

// TestAdversary tries every way out: in mode learn, where what does not arrive
// proves nothing later, and in mode block, where only that may arrive which the
// policy allows and what openWays names. It fails for a new way as for one that
// is open no more.
func TestAdversary(t *testing.T) {
	f := newFixture(t)
	f.write(adversaryPolicy, adversaryRules)
	f.write(standingPolicy, adversaryRules)
	f.enforcer.start(t)
	f.ready(f.stay("first", "block"))
	witness := f.docker.Run(t, docker.Spec{
		Name: "witness", Network: "dual", Cmd: []string{"stay"},
		Labels: map[string]string{"egress": "learn", "egress.policy": standingPolicy},
	})
	c := newCrew(f)
	open, closed := c.sides(), c.sides()
	began := time.Now()
	c.all(open, "learn", nil)
	t.Logf("in learn: %s", took(began))
	began = time.Now()
	c.all(closed, "block", func() { c.block(witness) })
	t.Logf("in block: %s", took(began))
	began = time.Now()
	killed := who[0]
	killed.name, killed.mode, killed.pause = "killed", "block", f.enforcer.kill
	c.start(&killed)
	c.finish(&killed)
	t.Logf("with the enforcer killed half-way: %s", took(began))
	c.tap.Sync(t)
	for i := range open {
		c.compare(t, open[i], closed[i])
	}
	c.compare(t, open[0], &killed)
	c.names(t, closed[0])
	if !t.Failed() {
		c.update(t, open, closed)
	}
}

// sides are one run of each kind.
func (c *crew) sides() []*hostile {
	var all []*hostile
	for _, h := range who {
		all = append(all, &h)
	}
	return all
}

// all runs them beside each other. In mode block the standing one starts in
// mode learn and is blocked half-way.
func (c *crew) all(some []*hostile, mode string, block func()) {
	c.t.Helper()
	for _, h := range some {
		h.name, h.mode = h.name+"-"+mode, mode
		if h.verb == "stand" {
			h.mode = "learn"
			if h.pause = block; block == nil {
				h.pause = func() {}
			}
		}
		c.start(h)
	}
	stop := c.swap()
	defer stop()
	for _, h := range some {
		c.finish(h)
	}
}

// names holds that what left in names, by Docker's own resolver, was counted. The
// longest of them the enforcer may have taken already.
func (c *crew) names(t *testing.T, h *hostile) {
	t.Helper()
	g := c.gate(t)
	defer g.Close()
	all, err := g.Containers()
	if err != nil {
		t.Fatal(err)
	}
	n, err := g.Names(all[h.c.ID])
	if err != nil || n.Questions < uint64(len(dnsWays)) || n.Octets < n.Questions*20 {
		t.Errorf("%s: questions counted: %+v, %v", h.name, n, err)
	}
}

// compare holds what arrived in block against what arrived in learn.
func (c *crew) compare(t *testing.T, open, closed *hostile) {
	t.Helper()
	effective := 0
	for n, w := range adversary.All() {
		if !open.tries(w) {
			continue
		}
		o, b := c.wire.count(open.run, n), c.wire.count(closed.run, n)
		if o > 0 {
			effective++
		}
		reason, known := openIn(closed, w.Name)
		saw := func(h *hostile) string { return h.reports[n].Saw() + ", " + h.reports[n].Detail }
		switch {
		case o == 0 && w.Needs == "" && open.has(w.Cap):
			t.Errorf("%s: %s does not arrive even where nothing stops it: %s", open.name, w, saw(open))
		case w.Allowed && b == 0:
			t.Errorf("%s: %s does not arrive, but the policy allows it: %s", closed.name, w, saw(closed))
		case w.Allowed:
		case b > 0 && !known:
			t.Errorf("%s: %s arrives (%d frames): %s", closed.name, w, b, saw(closed))
		case b == 0 && known && o > 0:
			t.Errorf("%s: %s arrives no more: take it from openWays (%s): %s", closed.name, w, reason, saw(closed))
		}
	}
	t.Logf("%s: %d ways work in learn, held against %s", open.name, effective, closed.name)
}

// block sets the mode of the standing policy, and returns when it is in force
// and what stood is cut.
func (c *crew) block(witness *docker.Container) {
	c.t.Helper()
	log := c.enforcer.events(c.t)
	d, err := operator.Open(c.t.Context(), log, "e2e", time.Now)
	if err != nil {
		c.t.Fatal(err)
	}
	draft, err := d.SetMode(standingPolicy, policy.ModeBlock, "the adversary holds on")
	if err == nil {
		_, err = d.Append(c.t.Context(), draft)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	testutil.Eventually(c.t, "block is in force", func() error {
		if r := dial(c.t, witness, "192.0.2.1:443"); !r.Denied() {
			return errors.New(r.String())
		}
		return nil
	})
	applied(c.t, log)
}
