package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
)

// member is a worker process.
type member struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
}

// kind is one thing that is measured.
type kind struct {
	turn
	name string
	next uint64
}

// crew takes turns.
type crew struct {
	members []*member
	kinds   []*kind
	// medians[kind][member] has one number for each round.
	medians map[string]map[string][]float64
	// decided is how many decisions the gate must have counted.
	decided uint64
}

// The members. The ratios are to plain.
const (
	gated, plain, again, set, tracked = "gate", "plain", "noise", "nftables", "nftables+ct"
)

func startCrew(g *gate, cpu, n int) (*crew, error) {
	c := &crew{medians: map[string]map[string][]float64{}, kinds: []*kind{
		{name: "connect/known", turn: turn{Kind: "connect"}},
		{name: "connect/new", turn: turn{Kind: "connect", New: true}, next: 1 << 32},
		{name: "udp/known", turn: turn{Kind: "udp"}},
		{name: "udp/new", turn: turn{Kind: "udp", New: true}, next: 2 << 32},
		{name: "send", turn: turn{Kind: "send"}},
		{name: "bulk", turn: turn{Kind: "bulk"}},
	}}
	for _, m := range []struct {
		name, firewall string
		cgroup         *os.File
	}{
		{plain, "none", g.outside}, {gated, "none", g.inside}, {again, "none", g.outside},
		{set, "set", g.outside}, {tracked, "conntrack", g.outside},
	} {
		k, err := start(m.name, m.cgroup, strconv.Itoa(cpu), strconv.Itoa(n), m.firewall)
		if err != nil {
			return c, fmt.Errorf("start %s: %w", m.name, err)
		}
		c.members = append(c.members, k)
	}
	return c, nil
}

// start runs a worker that is born in the cgroup, in a new network namespace.
func start(name string, cgroup *os.File, args ...string) (*member, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, append([]string{workerArg}, args...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET, UseCgroupFD: true, CgroupFD: int(cgroup.Fd()), Pdeathsig: syscall.SIGKILL,
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	m := &member{name: name, cmd: cmd, in: in, out: bufio.NewScanner(out)}
	m.out.Buffer(nil, 1<<20)
	if _, err := m.answer(); err != nil {
		return nil, errors.Join(err, cmd.Wait())
	}
	return m, nil
}

func (m *member) do(t turn) ([]float64, error) {
	if err := json.NewEncoder(m.in).Encode(t); err != nil {
		return nil, fmt.Errorf("%s: %w", m.name, err)
	}
	return m.answer()
}

func (m *member) answer() (times []float64, err error) {
	if !m.out.Scan() {
		return nil, fmt.Errorf("%s ended: %w", m.name, errors.Join(m.out.Err(), io.ErrUnexpectedEOF))
	}
	return times, json.Unmarshal(m.out.Bytes(), &times)
}

// rounds lets everybody do everything in each round, in changing order. The
// first round warms up and counts for nothing.
func (c *crew) rounds(o options) error {
	for round := range o.rounds + 1 {
		for _, k := range c.kinds {
			t := k.turn
			t.First, t.Batches = k.next, o.batches
			for i := range c.members {
				m := c.members[(i+round)%len(c.members)]
				times, err := m.do(t)
				if err != nil {
					return err
				}
				if m.name == gated {
					c.decide(k, t, round == 0)
				}
				if round > 0 {
					c.note(k.name, m.name, median(times))
				}
			}
			k.next += uint64(t.Batches * batch)
		}
	}
	return nil
}

// decide counts what the gate has to: sends on a connection are not judged,
// the connection itself is.
func (c *crew) decide(k *kind, t turn, first bool) {
	switch k.Kind {
	case "connect", "udp":
		c.decided += uint64(t.Batches * batch)
	case "send":
		if first {
			c.decided++
		}
	}
}

func (c *crew) note(kind, member string, ns float64) {
	if c.medians[kind] == nil {
		c.medians[kind] = map[string][]float64{}
	}
	c.medians[kind][member] = append(c.medians[kind][member], ns)
}

// print writes a line for each kind: the time without anything, and the
// ratios of the others to it.
func (c *crew) print(w io.Writer, n int) {
	for _, k := range c.kinds {
		off := c.medians[k.name][plain]
		fmt.Fprintf(w, "BenchmarkCost/%s/%d\t%d\t%.0f ns/op", k.name, n, len(off), median(off))
		for _, m := range []string{gated, again, set, tracked} {
			fmt.Fprintf(w, "\t%.3f %s", ratio(c.medians[k.name][m], off), m)
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
