package enforcer

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/bpf"
)

func TestUnusualNamesAreTold(t *testing.T) {
	total := map[uint32]bpf.Names{1: {Questions: 1000, Octets: 90_000}}
	n := &names{
		bounds: DNS{QuestionsPerSecond: 10, OctetsPerSecond: 500, LongestName: 100},
		read:   func(index uint32) (bpf.Names, error) { return total[index], nil },
	}
	all := []Container{{ID: "a", Name: "shop-web-1", Workload: "shop/web", Index: 1}}
	now := time.Unix(1_800_000_000, 0)
	look := func(questions, octets, longest uint64) []hostEvent {
		t.Helper()
		total[1] = bpf.Names{Questions: total[1].Questions + questions, Octets: total[1].Octets + octets, Longest: longest}
		now = now.Add(time.Minute)
		events, err := n.look(all, now)
		if err != nil {
			t.Fatal(err)
		}
		return events
	}
	if events := look(1e6, 1e9, 100); len(events) != 0 {
		t.Errorf("what was before the first look is told as rates: %+v", events)
	}
	delete(n.last, "a")
	events := look(1e6, 1e9, 101)
	if len(events) != 1 || events[0].Detail["longest_name"] != "101" || events[0].Detail["octets_per_second"] != "" || events[0].Count != 0 {
		t.Errorf("the long name before the first look is told as %+v", events)
	}
	for _, c := range []struct {
		what                       string
		questions, octets, longest uint64
		unusual                    bool
	}{
		{"at the bounds", 600, 30_000, 100, false},
		{"nothing", 0, 0, 0, false},
		{"many questions", 601, 1000, 30, true},
		{"many octets", 300, 30_001, 80, true},
		{"a long name", 1, 120, 101, true},
	} {
		events := look(c.questions, c.octets, c.longest)
		if (len(events) == 1) != c.unusual {
			t.Errorf("%s: %+v", c.what, events)
		}
	}
	events = look(1200, 6000, 77)
	if len(events) != 1 {
		t.Fatalf("%+v", events)
	}
	e := events[0]
	if e.Kind != "dns.unusual" || e.Workload != "shop/web" || e.Container != "shop-web-1" || e.Count != 1200 ||
		e.Detail["questions_per_second"] != "20.0" || e.Detail["octets_per_second"] != "100.0" || e.Detail["longest_name"] != "77" {
		t.Errorf("%+v", e)
	}
	t.Run("no bound is no event", func(t *testing.T) {
		n.bounds = DNS{}
		if events := look(1e9, 1e12, 255); len(events) != 0 {
			t.Errorf("%+v", events)
		}
	})
	t.Run("what cannot be read names the container", func(t *testing.T) {
		n.read = func(uint32) (bpf.Names, error) { return bpf.Names{}, errors.New("no such index") }
		if _, err := n.look(all, now.Add(time.Minute)); err == nil || !strings.Contains(err.Error(), "shop-web-1") {
			t.Error(err)
		}
	})
}

func TestALongNameIsNoLaterContainers(t *testing.T) {
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	put(t, r, labelled("first", "block"))
	index := r.List()[0].Index
	// What it asks between the last look and its end waits for the next one.
	k.names[index] = bpf.Names{Questions: 4, Longest: 201}
	delete(r.containers, "first")
	delete(r.byIndex, index)
	put(t, r, labelled("second", "block"))
	if got := k.names[index]; r.List()[0].Index != index || got.Longest != 0 {
		t.Errorf("the new container has index %d and names %+v", r.List()[0].Index, got)
	}
}
