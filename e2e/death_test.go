package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/docker"
	"github.com/egresswarden/egresswarden/internal/testutil/lineschema"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// kills is how often the enforcer is killed.
const kills = 50

// TestDeath kills the enforcer again and again under load from every mode: no
// denied packet passes, no allowed connect fails, and no decision is lost.
func TestDeath(t *testing.T) {
	f := newFixture(t)
	f.enforcer.start(t)
	f.ready(f.stay("first", "block"))
	never := f.watch(strings.Split(forbidden, ",")...)
	loads := startLoads(t, f)
	n := kills
	if testing.Short() {
		n = 5
	}
	began, random := time.Now(), rand.New(rand.NewPCG(1, 2))
	for i := range n {
		if i%5 == 4 {
			f.enforcer.kill() // while it starts, too
			f.enforcer.launch(t)
			time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
			f.enforcer.kill()
			f.enforcer.start(t)
			continue
		}
		// The moment of the kill is random; nothing is waited for.
		time.Sleep(time.Duration(random.IntN(100)) * time.Millisecond)
		f.enforcer.kill()
		f.enforcer.start(t)
	}
	t.Logf("killed %d times in %s", n+n/5, took(began))
	for _, l := range loads {
		l.stop(t)
	}
	nothing(t, never, "under load")
	for _, l := range loads {
		t.Run("counted "+l.c.Name, func(t *testing.T) { accounted(t, f, l) })
	}
}

// load is a container that dials without end.
type load struct {
	c       *docker.Container
	mode    string
	refused bool
	// attempts and decisions are what the program made, once it has ended: a
	// connected datagram is one decision as a stream is.
	attempts int
}

func startLoads(t *testing.T, f *fixture) []*load {
	t.Helper()
	var all []*load
	for _, l := range []load{
		{mode: "allow"}, {mode: "learn"}, {mode: "learn", refused: true}, {mode: "block"}, {mode: "block", refused: true},
	} {
		to := strings.Join(admitted, ",")
		if l.refused {
			to = forbidden
		}
		if l.refused && l.mode == "learn" {
			to = "192.168.7.1:53,[2001:db8:e::1]:53"
		}
		l.c = f.docker.Run(t, docker.Spec{
			Name: fmt.Sprintf("load-%s-%v", l.mode, l.refused), Labels: labels(l.mode), Network: "dual",
			Cmd: []string{"loop", "-how", "tcp,udp_sendto", "-to", to, "-pause", "2ms"},
		})
		all = append(all, &l)
	}
	return all
}

// stop ends the load and judges each attempt that it made.
func (l *load) stop(t *testing.T) {
	t.Helper()
	l.c.Stop(t)
	for _, tally := range output(t, l.c) {
		got := tally.OK
		if l.refused && l.mode == "block" {
			got = tally.Denied
		}
		if got != tally.Attempts || got == 0 {
			t.Errorf("%s: %+v", l.c.Name, tally)
		}
		l.attempts += tally.Attempts
	}
}

// accounted holds that attempts, the kernel's counters and the events agree.
func accounted(t *testing.T, f *fixture, l *load) {
	want := bpf.Counters{}
	switch {
	case l.mode == "allow":
	case !l.refused:
		want.Allow = uint64(l.attempts)
	case l.mode == "learn":
		want.WouldDeny = uint64(l.attempts)
	default:
		want.Deny = uint64(l.attempts)
	}
	if got := f.counters(t, l.c); got != want {
		t.Errorf("the kernel counted %+v for %d attempts, want %+v", got, l.attempts, want)
	}
	events := f.enforcer.events(t)
	testutil.Eventually(t, "the events tell as much", func() error {
		got, err := told(t, events, l.c)
		if err == nil && got != want {
			err = fmt.Errorf("told %+v, want %+v", got, want)
		}
		return err
	})
	t.Logf("%s: %d attempts, %+v", l.c.Name, l.attempts, want)
}

// counters are the kernel's for a container.
func (f *fixture) counters(t *testing.T, c *docker.Container) bpf.Counters {
	t.Helper()
	g := f.gate(t)
	defer g.Close()
	all, err := g.Containers()
	if err != nil {
		t.Fatal(err)
	}
	index, ok := all[c.ID]
	if !ok {
		t.Fatalf("the gate does not know container %s", c.Name)
	}
	n, err := g.Counters(index)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// told sums the events of a container, each of whose lines keeps the schema.
func told(t *testing.T, l *eventlog.Log, c *docker.Container) (sum bpf.Counters, err error) {
	seen := map[string]bool{}
	for flow, err := range l.Flows(t.Context(), eventlog.FlowQuery{}) {
		if err != nil {
			return sum, err
		}
		if flow.ContainerId != c.ID {
			continue
		}
		if seen[flow.Id] {
			return sum, errors.New("an event is there twice: " + flow.Id)
		}
		seen[flow.Id] = true
		if err := lineschema.Check(schemas.AppendLine(nil, flow)); err != nil {
			t.Fatal(err)
		}
		switch policy.Verdict(flow.Verdict) {
		case policy.VerdictAllow:
			sum.Allow += flow.Count
		case policy.VerdictDeny:
			sum.Deny += flow.Count
		case policy.VerdictWouldDeny:
			sum.WouldDeny += flow.Count
		}
	}
	return sum, nil
}
