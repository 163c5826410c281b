// Package enforcer keeps the gate of one host in step with its containers and
// their policies, and turns what the gate decides into durable events.
//
// The flow of things: Docker's events and lists become descriptions
// (engine.go), the registry turns them into kernel state (registry.go), rules
// come from the policy log, into which files of a folder are imported
// (follow.go, folder.go), and the ring of decisions goes through the pump to
// the event log (pump.go). The kernel enforces whatever was last applied,
// whether or not this process lives.
package enforcer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/eventlog"
)

// Enforcer is one host's.
type Enforcer struct {
	cfg      Config
	log      *slog.Logger
	gate     *bpf.Gate
	registry *registry
	report   *reporter
	started  time.Time
	boot     string

	docker  atomic.Bool
	events  atomic.Pointer[eventlog.Log]
	pump    pumpStats
	ledger  ledger
	foldRev atomic.Uint64
	skipped atomic.Uint64
	// folded tells the importer that the log was folded further.
	folded chan struct{}
}

// New opens the gate and puts the last good state of the snapshot into it; it
// attaches nothing yet.
func New(cfg Config, log *slog.Logger) (*Enforcer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	o := bpf.DefaultOptions()
	o.PinDir, o.Log = cfg.Pins, log
	if cfg.CgroupRoot != "" {
		o.CgroupRoot = cfg.CgroupRoot
	}
	if cfg.RingBytes != 0 {
		o.RingBytes = cfg.RingBytes
	}
	if cfg.FlowEntries != 0 {
		o.FlowEntries = cfg.FlowEntries
	}
	if cfg.TablePrefixes != 0 {
		o.TablePrefixes = cfg.TablePrefixes
	}
	gate, err := bpf.Open(o)
	if err != nil {
		return nil, fmt.Errorf("open gate: %w", err)
	}
	e := &Enforcer{cfg: cfg, log: log, gate: gate, started: time.Now(), boot: gate.Instance(), folded: make(chan struct{}, 1)}
	e.report = newReporter(cfg.Host, log)
	e.registry = newRegistry(gate, registryOptions{
		DefaultMode: cfg.defaultMode(), MaxContainers: o.MaxContainers, Log: log, Report: e.report.add,
	})
	if err := e.restore(); err != nil {
		return nil, errors.Join(err, gate.Close())
	}
	return e, nil
}

// restore fills the gate from the snapshot and from what the kernel still
// holds. A broken snapshot is reported and the host goes on without it:
// unknown containers are then what the posture says.
func (e *Enforcer) restore() error {
	if err := e.registry.setUnknown(e.cfg.unknownMode()); err != nil {
		return err
	}
	if err := e.registry.adopt(); err != nil {
		return fmt.Errorf("read the pinned gate: %w", err)
	}
	snap, err := loadSnapshot(e.cfg.snapshotPath())
	if err != nil {
		e.report.add(warn("snapshot.unreadable", "snapshot cannot be read, containers are unknown until docker tells", err))
		return nil
	}
	e.foldRev.Store(snap.Fold)
	e.registry.restore(snap)
	return nil
}

// Run enforces until ctx ends, and leaves the pinned gate at work. The event
// log is the server, if one is given, else what the configuration names.
func (e *Enforcer) Run(ctx context.Context, server *eventlog.Server) (err error) {
	defer func() { err = errors.Join(err, e.gate.Close()) }()
	engine, err := newEngine(e.cfg.Docker)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	w := &watcher{engine: engine, registry: e.registry, report: e.report.add, log: e.log, connected: &e.docker, settle: e.cfg.settle()}
	if err := e.attach(ctx, w); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.run(ctx) })
	g.Go(func() error { return e.keepSnapshot(ctx) })
	g.Go(func() error { return e.expire(ctx) })
	g.Go(func() error { return e.sweep(ctx) })
	g.Go(func() error { return e.withEventLog(ctx, server) })
	err = g.Wait()
	if saveErr := e.saveSnapshot(); saveErr != nil {
		err = errors.Join(err, saveErr)
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// attach puts the gate in force: on the first start after Docker's list, so
// that what runs is known; and lists once more for what started meanwhile.
func (e *Enforcer) attach(ctx context.Context, w *watcher) error {
	fresh := !e.gate.Attached()
	if fresh {
		e.syncOnce(ctx, w)
	}
	if err := e.gate.Attach(); err != nil {
		return fmt.Errorf("attach gate: %w", err)
	}
	e.log.Info("gate attached", "fresh", fresh)
	if fresh {
		e.syncOnce(ctx, w)
	}
	return nil
}

// syncOnce takes what Docker tells within a few seconds; without Docker the
// snapshot stands.
func (e *Enforcer) syncOnce(ctx context.Context, w *watcher) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := w.resync(ctx); err != nil {
		e.log.Warn("docker does not answer, the snapshot is enforced", "err", err)
	}
}

// withEventLog connects and runs all that needs the event log.
func (e *Enforcer) withEventLog(ctx context.Context, server *eventlog.Server) error {
	log, own, err := e.cfg.connect(ctx, server, e.log)
	if err != nil {
		return fmt.Errorf("event log: %w", err)
	}
	e.events.Store(log)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return e.report.run(ctx, log) })
	g.Go(func() error { return e.runPump(ctx, log) })
	g.Go(func() error { return e.follow(ctx, log) })
	g.Go(func() error { return e.watchFolder(ctx, log) })
	g.Go(func() error { return e.answer(ctx, log) })
	g.Go(func() error { return e.heartbeat(ctx) })
	err = g.Wait()
	log.Close()
	return errors.Join(err, own())
}
