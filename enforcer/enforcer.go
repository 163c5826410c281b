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
	"github.com/egresswarden/egresswarden/schemas"
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

	docker atomic.Bool
	events atomic.Pointer[eventlog.Log]
	pump   pumpStats
	ledger ledger
	// skipped is the revision of the last event that could not be read.
	skipped  atomic.Uint64
	problems problems
	// attached is closed when the gate is in force.
	attached chan struct{}
	// placed tells the walls that a container runs.
	placed  chan struct{}
	release func() error
	// folded tells the importer that the log was folded further.
	folded chan struct{}
	// scrapes lets readers of metrics at the gate until it is closed.
	scrapes door
	cutter  cutter
	// left tells whether the gate was attached when it was let go of.
	left atomic.Bool
}

// New opens the gate and puts the last good state of the snapshot into it; it
// attaches nothing yet. ErrRunning says that another process does so already.
// Run or Close it.
func New(cfg Config, log *slog.Logger) (*Enforcer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	release, err := cfg.lock()
	if err != nil {
		return nil, err
	}
	e, err := open(cfg, log)
	if err != nil {
		return nil, errors.Join(err, release())
	}
	e.release = release
	return e, nil
}

// gateOptions are the gate's, as configured.
func (c Config) gateOptions(log *slog.Logger) bpf.Options {
	o := bpf.DefaultOptions()
	o.PinDir, o.Log = c.Pins, log
	if c.CgroupRoot != "" {
		o.CgroupRoot = c.CgroupRoot
	}
	if c.RingBytes != 0 {
		o.RingBytes = c.RingBytes
	}
	if c.FlowEntries != 0 {
		o.FlowEntries = c.FlowEntries
	}
	if c.TablePrefixes != 0 {
		o.TablePrefixes = c.TablePrefixes
	}
	return o
}

func open(cfg Config, log *slog.Logger) (*Enforcer, error) {
	o := cfg.gateOptions(log)
	gate, err := bpf.Open(o)
	if err != nil {
		return nil, fmt.Errorf("open gate: %w", err)
	}
	e := &Enforcer{
		cfg: cfg, log: log, gate: gate, started: time.Now(), boot: gate.Instance(),
		folded: make(chan struct{}, 1), attached: make(chan struct{}), placed: make(chan struct{}, 1), cutter: cutter{wake: make(chan struct{}, 1)},
	}
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
		e.report.add(warn(schemas.KindSnapshotUnreadable, "snapshot cannot be read, containers are unknown until docker tells", err))
		return nil
	}
	e.ledger.stand(snap.Fold, snap.Mark)
	e.registry.restore(snap)
	return nil
}

// Close lets go of the gate, which stays at work, and of the locks; Run does
// so itself.
func (e *Enforcer) Close() error {
	e.scrapes.close()
	e.left.Store(e.gate.Attached())
	return errors.Join(e.gate.Close(), e.release())
}

// LeftInForce tells, once Run or Close has returned, whether the gate goes on:
// somebody may have taken it off, and it may never have been attached.
func (e *Enforcer) LeftInForce() bool { return e.left.Load() }

// Attached is closed when Run has put the gate in force.
func (e *Enforcer) Attached() <-chan struct{} { return e.attached }

// Run enforces until ctx ends, and leaves the pinned gate at work. The event
// log is the server, if one is given, else what the configuration names.
func (e *Enforcer) Run(ctx context.Context, server *eventlog.Server) (err error) {
	defer func() { err = errors.Join(err, e.Close()) }()
	engine, err := newEngine(e.cfg.Docker)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	w := &watcher{
		engine: engine, registry: e.registry, report: e.report.add, log: e.log, connected: &e.docker, settle: e.cfg.settle(),
		problem: func(err error) { e.problems.set("docker", err) }, covered: e.covered,
	}
	if err := e.attach(ctx, w); err != nil {
		return err
	}
	close(e.attached)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.run(ctx) })
	g.Go(func() error { return e.watchGate(ctx) })
	g.Go(func() error { return e.watchNames(ctx) })
	g.Go(func() error { return e.keepWalls(ctx) })
	g.Go(func() error { return e.keepSnapshot(ctx) })
	g.Go(func() error { return e.expire(ctx) })
	g.Go(func() error { return e.sweep(ctx) })
	g.Go(func() error { return e.runCutter(ctx) })
	g.Go(func() error { return e.withEventLog(ctx, server) })
	if err = g.Wait(); errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, e.saveSnapshot())
}

// attach puts the gate in force: on the first start after Docker's list, so
// that what runs is known; and lists once more for what started meanwhile.
func (e *Enforcer) attach(ctx context.Context, w *watcher) error {
	fresh := !e.gate.Attached()
	answers := fresh && e.syncOnce(ctx, w)
	e.wallProblem(e.wallAll())
	if err := e.gate.Attach(); err != nil {
		return fmt.Errorf("attach gate: %w", err)
	}
	e.log.Info("gate attached", "fresh", fresh)
	// At boot Docker may wait for this process: it is not asked twice.
	if answers {
		e.syncOnce(ctx, w)
	}
	return nil
}

// syncOnce takes what Docker tells within a few seconds; without Docker, which
// is false, the snapshot stands.
func (e *Enforcer) syncOnce(ctx context.Context, w *watcher) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := w.resync(ctx)
	if err != nil {
		e.log.Warn("docker does not answer, the snapshot is enforced", "err", err)
	}
	return err == nil
}
