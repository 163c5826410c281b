package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// crew takes turns.
type crew struct {
	members []*member
	kinds   []*kind
	// medians[kind][member] has one number for each round.
	medians map[string]map[string][]float64
	// decided is how many decisions the gate must have counted.
	decided uint64
}

// startCrew starts the members of these roles. What it returns wants an end, with an
// error too.
func startCrew(g *gate, o options, n int, roles []role) (*crew, error) {
	c := &crew{medians: map[string]map[string][]float64{}, kinds: allKinds()}
	for _, r := range roles {
		m, err := g.start(r, o, n)
		if err != nil {
			return c, fmt.Errorf("start %s: %w", r.name, err)
		}
		c.members = append(c.members, m)
		if !r.link {
			continue
		}
		if m.link, err = g.newLink(m.cmd.Process.Pid, o.batches*batch); err != nil {
			return c, fmt.Errorf("link of %s: %w", r.name, err)
		}
		if !r.walled {
			continue
		}
		if err := g.wall(m.link); err != nil {
			return c, fmt.Errorf("wall of %s: %w", r.name, err)
		}
	}
	return c, nil
}

// rounds lets everybody do everything in each round, in changing order. The
// first round warms up and counts for nothing.
func (c *crew) rounds(o options) error {
	for round := range o.rounds + 1 {
		for _, k := range c.kinds {
			t := k.at(o.batches)
			for _, m := range c.order(t, round) {
				times, err := m.do(t)
				if err != nil {
					return err
				}
				if m.gated {
					c.decided += t.decisions(round == 0)
				}
				if round > 0 {
					c.note(k.name, m.name, median(times))
				}
			}
			k.next += uint64(t.count())
		}
	}
	return nil
}

// order is that in which members take a turn. Everybody is the first equally often,
// which costs more.
func (c *crew) order(t turn, round int) []*member {
	ms := slices.DeleteFunc(slices.Clone(c.members), func(m *member) bool { return !m.has(t) })
	if len(ms) == 0 {
		return nil
	}
	first := round % len(ms)
	return slices.Concat(ms[first:], ms[:first])
}

func (c *crew) note(kind, member string, ns float64) {
	if c.medians[kind] == nil {
		c.medians[kind] = map[string][]float64{}
	}
	c.medians[kind][member] = append(c.medians[kind][member], ns)
}

// print writes a line for each kind: the time without anything, and the ratios to
// it of the others that did it.
func (c *crew) print(w io.Writer, n int) {
	for _, k := range c.kinds {
		off := c.medians[k.name][plain]
		fmt.Fprintf(w, "BenchmarkCost/%s/%d\t%d\t%.0f ns/op", k.name, n, len(off), median(off))
		for _, m := range c.members {
			if m.name != plain && m.has(k.turn) {
				fmt.Fprintf(w, "\t%.3f %s", ratio(c.medians[k.name][m.name], off), m.name)
			}
		}
		fmt.Fprintln(w)
	}
}

// ratio is the median of the rounds' ratios.
func ratio(a, b []float64) float64 {
	rs := make([]float64, len(a))
	for i := range a {
		rs[i] = a[i] / b[i]
	}
	return median(rs)
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(all))
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}

// end lets the workers go.
func (c *crew) end() error {
	if c == nil {
		return nil
	}
	var errs []error
	for _, m := range c.members {
		errs = append(errs, m.in.Close(), m.cmd.Wait())
	}
	return errors.Join(errs...)
}
