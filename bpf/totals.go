package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// totalsChunk is how many indexes one call to the kernel reads.
const totalsChunk = 512

// Totals returns all decisions ever made, whoever made them, and how many of
// them found the flow table full. Both only grow, as long as the pins live.
func (g *Gate) Totals() (decided, overflow Counters, err error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return decided, overflow, fmt.Errorf("totals: %w", err)
	}
	var (
		cursor ebpf.MapBatchCursor
		keys   = make([]uint32, totalsChunk)
		values = make([]gateCounts, totalsChunk*cpus)
	)
	for {
		n, err := g.objects.Counters.BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return decided, overflow, fmt.Errorf("totals: %w", err)
		}
		for _, c := range values[:n*cpus] {
			decided = decided.Add(countersOf(c.N))
		}
		if err != nil {
			break
		}
	}
	err = listHash(g.objects.Overflows, func(_ uint32, o gateOverflow) { overflow = overflow.Add(countersOf(o.Total)) })
	if err != nil {
		return decided, overflow, fmt.Errorf("totals: %w", err)
	}
	return decided, overflow, nil
}
