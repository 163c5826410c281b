package bpf

import (
	"fmt"

	"github.com/egresswarden/egresswarden/policy"
)

// Counters are decisions by verdict.
type Counters struct {
	Allow, Deny, WouldDeny uint64
}

func countersOf(n [4]uint64) Counters {
	return Counters{
		Allow:     n[policy.VerdictAllow],
		Deny:      n[policy.VerdictDeny],
		WouldDeny: n[policy.VerdictWouldDeny],
	}
}

// Add returns the sums.
func (c Counters) Add(o Counters) Counters {
	return Counters{c.Allow + o.Allow, c.Deny + o.Deny, c.WouldDeny + o.WouldDeny}
}

// Total is the number of decisions of any verdict.
func (c Counters) Total() uint64 { return c.Allow + c.Deny + c.WouldDeny }

// Counters returns all decisions ever made for the index: what the counts of
// events, Residue included, add up to.
func (g *Gate) Counters(index uint32) (Counters, error) {
	if err := g.checkIndex(index); err != nil {
		return Counters{}, fmt.Errorf("counters: %w", err)
	}
	var perCPU []gateCounts
	if err := g.objects.Counters.Lookup(index, &perCPU); err != nil {
		return Counters{}, wrap("counters of index", index, err)
	}
	var sum Counters
	for _, c := range perCPU {
		sum = sum.Add(countersOf(c.N))
	}
	return sum, nil
}

// Overflow returns the decisions ever made for the index that found the flow
// table full: they are events without a destination.
func (g *Gate) Overflow(index uint32) (Counters, error) {
	if err := g.checkIndex(index); err != nil {
		return Counters{}, fmt.Errorf("overflow: %w", err)
	}
	var o gateOverflow
	if err := g.objects.Overflows.Lookup(index, &o); err != nil {
		return Counters{}, wrap("overflow of index", index, err)
	}
	return countersOf(o.Total), nil
}

// Births returns how many containers' cgroups were made whose container was
// known before, and how many whose was not. Children of known cgroups do not
// count.
func (g *Gate) Births() (known, unknown uint64, err error) {
	if known, err = g.birth(gateBirthBIRTH_KNOWN); err != nil {
		return 0, 0, err
	}
	unknown, err = g.birth(gateBirthBIRTH_UNKNOWN)
	return known, unknown, err
}

// LostBirths returns how many births found no room among the known cgroups.
// Their decisions are right, but made in a slower way, and from the first one
// on those of the host's own processes are slower as well.
func (g *Gate) LostBirths() (uint64, error) {
	return g.birth(gateBirthBIRTH_LOST)
}

func (g *Gate) birth(what gateBirth) (uint64, error) {
	var perCPU []uint64
	if err := g.objects.Births.Lookup(uint32(what), &perCPU); err != nil {
		return 0, wrap("births", what, err)
	}
	sum := uint64(0)
	for _, n := range perCPU {
		sum += n
	}
	return sum, nil
}

// Residue returns the decisions by index that no event tells of yet. It is
// exact while nothing decides.
func (g *Gate) Residue() (map[uint32]Counters, error) {
	unlock, err := g.lockSweep()
	if err != nil {
		return nil, fmt.Errorf("residue: %w", err)
	}
	defer unlock()
	sums := make(map[uint32]*[4]uint64)
	add := func(index uint32, verdict uint8, n uint64) {
		if n == 0 {
			return
		}
		if sums[index] == nil {
			sums[index] = new([4]uint64)
		}
		sums[index][verdict&3] += n
	}
	visit := func(k gateFlowKey, f gateFlow) { add(k.Index, f.Detail.Verdict, f.Count) }
	if err := listHash(g.objects.FlowsA, visit); err != nil {
		return nil, fmt.Errorf("residue: %w", err)
	}
	if err := listHash(g.objects.FlowsB, visit); err != nil {
		return nil, fmt.Errorf("residue: %w", err)
	}
	for index := range g.objects.Overflows.MaxEntries() {
		var o gateOverflow
		if err := g.objects.Overflows.Lookup(index, &o); err != nil {
			return nil, wrap("residue of index", index, err)
		}
		for v, n := range o.Pending {
			add(index, uint8(v), n)
		}
	}
	all := make(map[uint32]Counters, len(sums))
	for index, n := range sums {
		all[index] = countersOf(*n)
	}
	return all, nil
}
