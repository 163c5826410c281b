package bpf

import (
	"fmt"
	"sync/atomic"

	"github.com/egresswarden/egresswarden/policy"
)

// The kernel's numbers of modes and flags are those of src/abi.h.
const (
	modeBlock = uint8(policy.ModeBlock)

	flagHostNetwork = 1
	flagNoDNS       = 2
	flagRaw         = 4
)

// State is what is done with a container. Slot 0 is the empty policy, which
// refuses everything.
type State struct {
	Mode policy.Mode
	Slot uint32
	// HostNetwork: loopback is the host's own, so it is judged.
	HostNetwork bool
	// NoDNS refuses Docker's embedded resolver.
	NoDNS bool
	// Raw keeps sockets that no destination can be asked of, as raw ones.
	Raw bool
	// Keep leaves established connections alone. It is of the change, and no part of
	// the state.
	Keep bool
}

// SetState puts a state in force for the container and all its child cgroups,
// in one store. Index 0 stands for every container that is not known.
func (g *Gate) SetState(index uint32, s State) error {
	if index >= uint32(len(g.shared.states)) {
		return fmt.Errorf("set state of container index %d: %w", index, ErrRange)
	}
	if s.Slot >= g.slots() {
		return fmt.Errorf("set state of container index %d: slot %d: %w", index, s.Slot, ErrRange)
	}
	if atomic.SwapUint64(&g.shared.states[index], s.pack()) == s.pack() {
		return nil
	}
	ends := only(index)
	if s.Keep {
		ends = none
	}
	g.shared.changed(ends)
	return nil
}

// State returns the state in force.
func (g *Gate) State(index uint32) (State, error) {
	if index >= uint32(len(g.shared.states)) {
		return State{}, fmt.Errorf("state of container index %d: %w", index, ErrRange)
	}
	return unpackState(atomic.LoadUint64(&g.shared.states[index])), nil
}

func (s State) pack() uint64 {
	flags := uint64(0)
	if s.HostNetwork {
		flags |= flagHostNetwork
	}
	if s.NoDNS {
		flags |= flagNoDNS
	}
	if s.Raw {
		flags |= flagRaw
	}
	return uint64(s.Mode) | flags<<8 | uint64(s.Slot)<<32
}

func unpackState(v uint64) State {
	return State{
		Mode:        policy.Mode(v & 0xff),
		Slot:        uint32(v >> 32),
		HostNetwork: v>>8&flagHostNetwork != 0,
		NoDNS:       v>>8&flagNoDNS != 0,
		Raw:         v>>8&flagRaw != 0,
	}
}

func (g *Gate) slots() uint32 { return uint32(len(g.shared.policies) / 2) }
