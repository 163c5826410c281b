package bpf

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ProgramStat is what the kernel says of a program of this gate.
type ProgramStat struct {
	// Runs and Time count while somebody has statistics enabled.
	Runs uint64
	Time time.Duration
	// Missed are runs that the kernel left out. For cgroup_mkdir each may be a
	// birth that nobody saw.
	Missed uint64
}

// EnableStats makes the kernel measure all programs until it is closed, which
// costs each some tens of nanoseconds.
func EnableStats() (io.Closer, error) {
	c, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return nil, fmt.Errorf("enable run-time statistics: %w", err)
	}
	return c, nil
}

// ProgramStats returns the statistics of the attached programs by name.
func (g *Gate) ProgramStats() (map[string]ProgramStat, error) {
	all := make(map[string]ProgramStat)
	var errs []error
	for _, h := range g.hooks() {
		if h.optional && g.lacksSocketCreate != nil {
			continue
		}
		s, err := h.prog.Stats()
		if err != nil {
			errs = append(errs, fmt.Errorf("statistics of %s: %w", h.name, err))
			continue
		}
		all[h.name] = ProgramStat{Runs: s.RunCount, Time: s.Runtime, Missed: s.RecursionMisses}
	}
	return all, errors.Join(errs...)
}
