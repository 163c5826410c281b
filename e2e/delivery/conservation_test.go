package delivery

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/loki"
)

// decisions are at least as many as each seed makes.
const decisions = 200_000

// TestFromTheKernelToLoki raises an alert by a real container. Then it kills and
// halts everything between the kernel and Loki, and holds that at the end the
// events in Loki and the dead letters tell of each decision that the kernel
// counted, once.
func TestFromTheKernelToLoki(t *testing.T) {
	alerts := loki.NewAlertmanager(t)
	c := newCrew(t, loki.Options{Rules: fastRules(t), Evaluate: evaluate, Alertmanager: alerts.URL})
	t.Run("a spike raises an alert", func(t *testing.T) { c.spikes(t, alerts) })
	for seed := uint64(1); seed <= 3; seed++ {
		victims := map[string]victim{"enforcer": c.enforcer, "nats": c.nats, "collector": c.collectors[0], "loki": c.loki}
		name := "one collector"
		if seed == 3 {
			victims["second collector"] = c.collector(t, target, "")
			name = "two collectors"
		}
		t.Run(fmt.Sprintf("seed %d, %s", seed, name), func(t *testing.T) { c.conserves(t, seed, victims) })
	}
}

func (c *crew) conserves(t *testing.T, seed uint64, victims map[string]victim) {
	began, part := time.Now(), fmt.Sprintf("s%d", seed)
	var loads []*load
	for _, f := range floods {
		loads = append(loads, c.start(t, part, f))
	}
	havoc(t, seed, victims)
	stormed := time.Since(began)
	testutil.Eventually(t, "there are enough decisions", func() error {
		if n := c.inKernel(t, loads).total(); n < decisions {
			return fmt.Errorf("%d of %d", n, decisions)
		}
		return nil
	})
	made := uint64(0)
	for _, l := range loads {
		made += uint64(l.stop(t).Attempts)
	}
	want := c.inKernel(t, loads)
	if want.total() != made {
		t.Errorf("the kernel counted %d decisions, the containers made %d", want.total(), made)
	}
	c.told(t, loads)
	l := c.events(t)
	c.drained(t, l, target)
	settled := time.Since(began) - stormed
	for _, m := range append(c.collectors, c.enforcer, c.nats) {
		if err := m.alive(); err != nil {
			t.Error(err)
		}
	}
	c.compare(t, l, part, loads, want, began)
	t.Logf("outages for %.1f s, all delivered %.1f s later", stormed.Seconds(), settled.Seconds())
}

func (c *crew) compare(t *testing.T, l *eventlog.Log, part string, loads []*load, want counts, began time.Time) {
	t.Helper()
	inStream := newReading()
	for f, err := range l.Flows(t.Context(), eventlog.FlowQuery{}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range loads {
			if f.GetContainerId() == one.c.ID {
				inStream.events++
				inStream.ids[f.GetId()] = true
				inStream.sum.add(one.c.ID, f.GetVerdict().Word(), f.GetCount())
			}
		}
	}
	if diff := cmp.Diff(want, inStream.sum); diff != "" {
		t.Errorf("-kernel +event log (%d events, %d ids):\n%s", inStream.events, len(inStream.ids), diff)
	}
	var got *reading
	var dead int
	// A message that is just being handed out is pending nowhere.
	testutil.Eventually(t, "all is in Loki or parked", func() error {
		got = c.inLoki(t, part, began)
		dead = got.dead(t, l, loads)
		if diff := cmp.Diff(want, got.sum); diff != "" {
			return fmt.Errorf("-kernel +loki and dead letters:\n%s", diff)
		}
		return nil
	})
	t.Logf("%d decisions in the kernel, %d in %d events in Loki (%d of them without a destination, %d lines twice), %d dead; metric queries count %.0f",
		want.total(), got.sum.total(), len(got.ids), got.overflow, got.events-len(got.ids), dead, c.counted(t, part))
}
