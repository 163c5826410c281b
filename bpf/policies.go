package bpf

import (
	"fmt"
	"sync/atomic"

	"github.com/egresswarden/egresswarden/policy"
)

// SetPolicy puts a compiled policy in force in a slot: built aside, then live
// by one store, so that every decision is the old policy's or the new one's.
// ErrFull when a trie has no room: the old policy stays. One process may set
// policies, until it closes the gate or ends: ErrBusy for any other.
func (g *Gate) SetPolicy(slot uint32, t *policy.Table, revision uint64) error {
	return g.setPolicy(slot, t, revision, g.shared.using(slot))
}

// SetPolicyKeeping is SetPolicy, and leaves established connections alone: those
// that the kernel remembers, which is most, until the next change that does not.
func (g *Gate) SetPolicyKeeping(slot uint32, t *policy.Table, revision uint64) error {
	return g.setPolicy(slot, t, revision, none)
}

func (g *Gate) setPolicy(slot uint32, t *policy.Table, revision uint64, ends func(index uint32) bool) error {
	if slot == 0 || slot >= g.slots() {
		return fmt.Errorf("set policy of slot %d: %w", slot, ErrRange)
	}
	e, err := encode(t)
	if err != nil {
		return fmt.Errorf("set policy of slot %d: %w", slot, err)
	}
	g.tables.setting.Lock()
	defer g.tables.setting.Unlock()
	if err := g.tables.own(); err != nil {
		return fmt.Errorf("set policy of slot %d: %w", slot, err)
	}
	id, err := g.tables.take()
	if err != nil {
		return fmt.Errorf("set policy of slot %d: %w", slot, err)
	}
	if err := g.tables.fill(id, e); err != nil {
		g.tables.retire(id)
		return fmt.Errorf("set policy of slot %d: %w", slot, err)
	}
	g.shared.headers[id] = gateHeader{
		Build:    atomic.AddUint32(&g.shared.settings().Build, 1),
		Revision: revision,
	}
	// The store orders the header before it, as all atomics of Go do.
	old := atomic.SwapUint32(g.shared.policy(slot), id)
	g.shared.changed(ends)
	g.tables.retire(old)
	return nil
}

// FreePolicy empties a slot: from then on it refuses everything.
func (g *Gate) FreePolicy(slot uint32) error {
	if slot == 0 || slot >= g.slots() {
		return fmt.Errorf("free policy of slot %d: %w", slot, ErrRange)
	}
	g.tables.setting.Lock()
	defer g.tables.setting.Unlock()
	if err := g.tables.own(); err != nil {
		return fmt.Errorf("free policy of slot %d: %w", slot, err)
	}
	old := atomic.SwapUint32(g.shared.policy(slot), 0)
	g.shared.changed(g.shared.using(slot))
	g.tables.retire(old)
	return nil
}
