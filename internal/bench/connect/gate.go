package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/policy"
)

const index, slot = 1, 1

// gate is a gate of its own, on a cgroup of its own beside another one.
type gate struct {
	*bpf.Gate
	dir, pins       string
	inside, outside *os.File
	events          uint64
	links           []*link
	walled          *link // the one with the wall on it
}

func openGate(n int) (g *gate, err error) {
	root, err := bpf.CgroupRoot()
	if err != nil {
		return nil, err
	}
	g = &gate{}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	if g.dir, err = os.MkdirTemp(root, "egwbench-"); err != nil {
		return g, fmt.Errorf("make cgroup: %w", err)
	}
	if g.pins, err = os.MkdirTemp("/sys/fs/bpf", "egwbench-"); err != nil {
		return g, fmt.Errorf("make pins: %w", err)
	}
	for name, f := range map[string]**os.File{"under": nil, "under/inside": &g.inside, "outside": &g.outside} {
		path := filepath.Join(g.dir, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return g, fmt.Errorf("make cgroup: %w", err)
		}
		if f == nil {
			continue
		}
		if *f, err = os.Open(path); err != nil {
			return g, err
		}
	}
	return g, g.fill(n)
}

func (g *gate) fill(n int) error {
	o := bpf.DefaultOptions()
	o.PinDir, o.CgroupRoot = g.pins, filepath.Join(g.dir, "under")
	var err error
	if g.Gate, err = bpf.Open(o); err != nil {
		return err
	}
	id, err := bpf.CgroupID(g.inside.Name())
	if err != nil {
		return err
	}
	if err := g.SetPolicy(slot, tableOf(append(prefixesOf(n), netip.PrefixFrom(farAddr, farAddr.BitLen()))), 1); err != nil {
		return err
	}
	return errors.Join(
		g.SetState(index, bpf.State{Mode: policy.ModeBlock, Slot: slot, HostNetwork: true}),
		g.PutCgroup(id, index),
		g.Attach(),
	)
}

// read takes and commits events, and sweeps each second, until the function
// that it returns is called, which settles what is left.
func (g *gate) read(ctx context.Context) func() error {
	ctx, stop := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error {
		for {
			events, end, err := g.Ring().Read(ctx, 4096)
			if errors.Is(err, context.Canceled) {
				return nil
			}
			if err != nil {
				return err
			}
			g.count(events)
			if err := g.Ring().Commit(end); err != nil {
				return err
			}
		}
	})
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
			if _, err := g.Sweep(); err != nil {
				return err
			}
		}
	})
	return func() error {
		stop()
		return errors.Join(group.Wait(), g.settle())
	}
}

func (g *gate) count(events []bpf.Event) {
	for _, e := range events {
		g.events += e.Count
	}
}

// settle takes what the flow tables and the ring still hold.
func (g *gate) settle() error {
	for range 3 {
		if _, err := g.Sweep(); err != nil {
			return err
		}
		for g.Ring().Pending() > 0 {
			ctx, stop := context.WithTimeout(context.Background(), time.Minute)
			events, end, err := g.Ring().Read(ctx, 4096)
			stop()
			if err != nil {
				return err
			}
			g.count(events)
			if err := g.Ring().Commit(end); err != nil {
				return err
			}
		}
	}
	return nil
}

// check holds what was counted against what was done.
func (g *gate) check(decided uint64) error {
	c, err := g.Counters(index)
	if err != nil {
		return err
	}
	var refused uint64
	if g.walled != nil {
		refused = 1
	}
	if c.Allow != decided || c.Deny != refused || g.events != decided+refused {
		return fmt.Errorf("%d decisions and %d refused packets, counted %+v, told %d", decided, refused, c, g.events)
	}
	return nil
}

// close takes everything away again.
func (g *gate) close() error {
	var errs []error
	if g.Gate != nil {
		errs = append(errs, g.Close())
	}
	if g.pins != "" {
		errs = append(errs, g.detach())
		if err := os.RemoveAll(g.pins); err != nil {
			errs = append(errs, err)
		}
	}
	for _, l := range g.links {
		errs = append(errs, l.close())
	}
	for _, name := range []string{"under/inside", "under", "outside", "."} {
		if g.dir == "" {
			break
		}
		if err := os.Remove(filepath.Join(g.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
