package enforcer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/schemas"
)

// namesEvery is how often the questions are looked at, and so how often a
// container is told of at most.
const namesEvery = time.Minute

// DNS bounds what a container usually asks Docker's resolver: while it may ask
// at all, data can leave in names. Beyond a bound is an event; 0 is no bound.
type DNS struct {
	QuestionsPerSecond float64 `yaml:"questions_per_second"`
	OctetsPerSecond    float64 `yaml:"octets_per_second"`
	// LongestName is in octets, of which a name can have 255.
	LongestName uint64 `yaml:"longest_name"`
}

func (d DNS) validate() error {
	if d.QuestionsPerSecond < 0 || d.OctetsPerSecond < 0 {
		return errors.New("dns: questions_per_second and octets_per_second must not be negative")
	}
	return nil
}

// asked is what one container asked in a time.
type asked struct {
	questions, octets float64 // a second, where rates are known
	rates             bool
	since, longest    uint64
}

func (d DNS) unusual(a asked) bool {
	beyond := func(value, bound float64) bool { return bound != 0 && value > bound }
	return beyond(a.questions, d.QuestionsPerSecond) || beyond(a.octets, d.OctetsPerSecond) ||
		beyond(float64(a.longest), float64(d.LongestName))
}

// names compares what containers have asked between two looks.
type names struct {
	bounds DNS
	// read gives what was ever asked by an index, the longest name since the
	// last time.
	read func(index uint32) (bpf.Names, error)
	last map[string]bpf.Names
	at   time.Time
}

// look returns an event for each container beyond a bound. The first look at a
// container knows no rates, but the longest name: what it asked before is taken
// away with it.
func (n *names) look(all []Container, now time.Time) (events []hostEvent, err error) {
	passed := now.Sub(n.at).Seconds()
	seen := make(map[string]bpf.Names, len(all))
	for _, c := range all {
		total, failed := n.read(c.Index)
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("names asked by %s: %w", c.Name, failed))
			continue
		}
		seen[c.ID] = total
		a := asked{longest: total.Longest}
		if last, known := n.last[c.ID]; known && passed > 0 {
			a.since = total.Questions - last.Questions
			a.questions = float64(a.since) / passed
			a.octets = float64(total.Octets-last.Octets) / passed
			a.rates = true
		}
		if n.bounds.unusual(a) {
			events = append(events, a.event(c))
		}
	}
	n.last, n.at = seen, now
	return events, err
}

func (a asked) event(c Container) hostEvent {
	h := hostEvent{
		Kind: schemas.KindDNSUnusual, Severity: "warn", Message: "a container asks docker's resolver more than is usual: data may leave in names",
		Workload: c.Workload, Container: c.Name, ContainerID: c.ID, Count: a.since,
		Detail: map[string]string{"longest_name": strconv.FormatUint(a.longest, 10)},
	}
	if a.rates {
		h.Detail["questions_per_second"] = strconv.FormatFloat(a.questions, 'f', 1, 64)
		h.Detail["octets_per_second"] = strconv.FormatFloat(a.octets, 'f', 1, 64)
	}
	return h
}

// watchNames looks at the questions until ctx ends.
func (e *Enforcer) watchNames(ctx context.Context) error {
	n := &names{bounds: e.cfg.DNS, read: e.gate.Names, at: time.Now()}
	tick := time.NewTicker(namesEvery)
	defer tick.Stop()
	for {
		events, err := n.look(e.registry.List(), time.Now())
		e.problems.set("dns", err)
		for _, h := range events {
			e.report.add(h)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
