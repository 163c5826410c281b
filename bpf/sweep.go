package bpf

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// SweepResult says what a sweep did.
type SweepResult struct {
	// Emitted is the number of events with counts that were left in the kernel.
	Emitted int
	// Left is 1 if the swept half of the flow table is not empty yet.
	Left int
	// Deleted is the number of flows that ended.
	Deleted int
	// RingFull: sweep again when the ring has been read.
	RingFull bool
}

// sweepBudget bounds the events of one run of the program, as interrupts of
// its CPU wait meanwhile.
const sweepBudget = 4096

const (
	stoppedRing   = 1
	stoppedBudget = 2
)

// Sweep ends the current window: it tells of all decisions that no event tells
// of yet, as events in the ring, and forgets the flows. Call it once in a
// window, and again after reading when RingFull.
//
// The flow table has two halves. The one not in use is emptied, the halves
// change places by one store, and after a grace period the other one is
// emptied. A program reads which half is in use once, and runs in one RCU read
// section: when the grace period is over, no program adds to the half that was
// in use before the store, and no entry can be deleted under a count.
func (g *Gate) Sweep() (SweepResult, error) {
	var r SweepResult
	unlock, err := g.lockSweep()
	if err != nil {
		return r, fmt.Errorf("sweep: %w", err)
	}
	defer unlock()
	// Another process may have ended between the store and the emptying.
	if !g.gracedOnce || g.graced != g.window() {
		if err := g.waitWindow(); err != nil {
			return r, fmt.Errorf("sweep: %w", err)
		}
	}
	if err := g.drain(&r); err != nil || r.Left != 0 {
		return r, err
	}
	atomic.AddUint32(&g.shared.settings().Window, 1)
	if err := g.waitWindow(); err != nil {
		return r, fmt.Errorf("sweep: %w", err)
	}
	return r, g.drain(&r)
}

// drain empties the half that is not in use, as far as the ring takes it.
func (g *Gate) drain(r *SweepResult) error {
	for {
		in := skbContext{CB: [5]uint32{sweepBudget}}
		ret, out, err := run(g.objects.Sweep, &in)
		if err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
		if ret != 0 {
			return fmt.Errorf("sweep: the program returned %d", ret)
		}
		r.Emitted += int(out.CB[0])
		r.Deleted += int(out.CB[1])
		switch out.CB[2] {
		case stoppedBudget:
			continue
		case stoppedRing:
			r.RingFull, r.Left = true, 1
		}
		return nil
	}
}

// waitWindow returns when no program can add to the half not in use.
func (g *Gate) waitWindow() error {
	window := g.window()
	if err := g.tables.grace(); err != nil {
		return err
	}
	g.graced, g.gracedOnce = window, true
	return nil
}

func (g *Gate) window() uint32 { return atomic.LoadUint32(&g.shared.settings().Window) }

// lockSweep keeps out every other sweep, in this process and in others.
func (g *Gate) lockSweep() (func(), error) {
	g.sweeping.Lock()
	if err := flock(g.lock); err != nil {
		g.sweeping.Unlock()
		return nil, err
	}
	return func() {
		_ = unix.Flock(int(g.lock.Fd()), unix.LOCK_UN)
		g.sweeping.Unlock()
	}, nil
}
