// Package bpf is the gate in the kernel: the programs that decide every
// outbound connect and send of Docker's containers, and their loader.
//
// The maps and links are pinned: the gate stays at work whether or not the
// process that opened it lives, and another one takes it over by Open and
// Attach without a moment in which it is open.
package bpf

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

// Layout is the number of the arrangement of maps and structs. It changes with
// any of them, so that programs never meet maps made for others.
const Layout = 5

// Gate is an open gate. Its methods may be called concurrently.
type Gate struct {
	o        Options
	dir      string // the layout's pin directory
	lock     *os.File
	objects  gateObjects
	shared   *shared
	ring     *Ring
	tables   *tables
	log      *slog.Logger
	sweeping sync.Mutex
	// graced is the window after whose start a grace period has passed; not
	// valid until gracedOnce.
	graced     uint32
	gracedOnce bool
	// lacksSocketCreate tells why that program is not at work, if it is not.
	lacksSocketCreate error
	// noTCX: this kernel has no links for network devices.
	noTCX   bool
	closing sync.Once
	closed  error
}

// Open makes the maps of this layout, or takes over the pinned ones, and loads
// the programs. It attaches nothing. It fails with ErrLayout when the pinned
// maps do not fit and links are at work on them.
func Open(o Options) (*Gate, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open gate: %w", err)
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("open gate: remove memlock limit: %w", err)
	}
	if err := ensureBPFFS(o.PinDir); err != nil {
		return nil, fmt.Errorf("open gate: %w", err)
	}
	g := &Gate{o: o, dir: layoutDir(o.PinDir, Layout), log: o.Log}
	if err := g.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open gate at %s: %w", g.dir, err), g.Close())
	}
	return g, nil
}

func (g *Gate) open() error {
	unlock, err := lockDir(g.o.PinDir)
	if err != nil {
		return err
	}
	defer unlock()
	spec, err := loadGate()
	if err != nil {
		return err
	}
	if g.lacksSocketCreate = probeSocketCreate(); g.lacksSocketCreate != nil {
		spec.Programs[socketCreate] = noSocketCreate()
	}
	g.noTCX = lacksTCX()
	prepareSpec(spec, g.o)
	maps, err := openMaps(spec, g.dir, g.log)
	if err != nil {
		return err
	}
	defer closeMaps(maps)
	// Types are exported by variables without a use: they have no map.
	var loaded struct {
		gatePrograms
		gateMaps
	}
	opts := &ebpf.CollectionOptions{MapReplacements: maps}
	if err := spec.LoadAndAssign(&loaded, opts); err != nil {
		return fmt.Errorf("load programs: %w", err)
	}
	g.objects = gateObjects{gatePrograms: loaded.gatePrograms, gateMaps: loaded.gateMaps}
	if g.lock, err = os.Open(g.dir); err != nil {
		return err
	}
	if g.shared, err = mapShared(&g.objects.gateMaps); err != nil {
		return err
	}
	if g.ring, err = newRing(g.objects.Events); err != nil {
		return err
	}
	g.tables, err = newTables(g)
	return err
}

// Close ends the use of the gate by this process; no other method may run
// then. What is pinned stays at work.
func (g *Gate) Close() error {
	g.closing.Do(func() { g.closed = g.close() })
	return g.closed
}

func (g *Gate) close() error {
	var errs []error
	if g.tables != nil {
		errs = append(errs, g.tables.close())
	}
	if g.ring != nil {
		errs = append(errs, g.ring.close())
	}
	if g.shared != nil {
		errs = append(errs, g.shared.close())
	}
	if g.lock != nil {
		errs = append(errs, g.lock.Close())
	}
	if g.objects.ConnectV4 != nil {
		errs = append(errs, g.objects.Close())
	}
	return errors.Join(errs...)
}

func layoutDir(pinDir string, layout int) string {
	return filepath.Join(pinDir, fmt.Sprintf("layout-%d", layout))
}
