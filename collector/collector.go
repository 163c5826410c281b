package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/schemas"
)

// streams are what is carried.
var streams = []string{schemas.StreamFlows, schemas.StreamPolicy, schemas.StreamHosts}

// CheckEventLog is the readiness of the connection, a name of its own beside an
// enforcer's. Run answers it; before there is a connection its caller does.
const CheckEventLog = "collector_event_log"

// Run carries the events to every target until the context ends. Any number of
// collectors may run with the same targets: for each stream and target one of
// them works, and another takes over when it is gone.
func Run(ctx context.Context, events *eventlog.Log, cfg Config) error {
	c := &collector{Config: cfg, events: events, metrics: newMetrics(cfg.Telemetry)}
	defer c.close()
	if cfg.Telemetry != nil {
		cfg.Telemetry.Check(CheckEventLog, events.Connected)
	}
	for _, t := range cfg.Targets {
		if err := c.add(t); err != nil {
			return fmt.Errorf("collect: %w", err)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range c.lines {
		g.Go(func() error { return l.consumer.Run(ctx, l.worker.deliver) })
	}
	for _, d := range c.disks {
		g.Go(func() error { return d.run(ctx) })
	}
	g.Go(func() error { return c.watch(ctx) })
	err := g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// collector is a run.
type collector struct {
	Config
	events  *eventlog.Log
	metrics *metrics
	lines   []*line
	disks   []*diskWatch
	closers []io.Closer
}

// line is a stream on its way to a target.
type line struct {
	consumer *eventlog.Consumer
	worker   *worker
}

func (c *collector) close() {
	for _, closer := range c.closers {
		_ = closer.Close() // each round was synced
	}
}

// add makes the target's sink and its lines.
func (c *collector) add(t Target) error {
	problems := newProblems(c.logger().With("target", t.name()))
	if c.Telemetry != nil {
		c.Telemetry.Check("target "+t.name(), problems.check)
	}
	m := &morgue{events: c.events, consumer: t.consumer(), problems: problems, metrics: c.metrics, backoff: c.backoff()}
	sink, err := c.sink(t, m)
	if err != nil {
		return err
	}
	since := t.since(time.Now())
	pinTTL, ackWait := c.takeover()
	for _, stream := range streams {
		c.lines = append(c.lines, &line{
			consumer: c.events.Consumer(eventlog.ConsumerOptions{
				Stream: stream, Name: t.consumer(), Since: since, PinTTL: pinTTL, AckWait: ackWait,
				Trouble: problems.reading(stream),
			}),
			worker: &worker{target: t.name(), stream: stream, sink: sink, morgue: m, metrics: c.metrics},
		})
	}
	return nil
}

func (c *collector) sink(t Target, m *morgue) (Sink, error) {
	switch {
	case t.Stdout:
		return &Stdout{out: os.Stdout}, nil
	case t.File != "":
		file, err := openFile(t.File)
		if err != nil {
			return nil, err
		}
		f := &File{path: t.File, file: file, problems: m.problems, backoff: m.backoff}
		c.closers = append(c.closers, f)
		return f, nil
	}
	config, err := t.loki()
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", t.name(), err)
	}
	p, err := newPoster(t.name(), config, c.metrics)
	if err != nil {
		return nil, err
	}
	d := &diskWatch{poster: p, log: c.logger().With("target", t.name()), every: c.diskEvery()}
	c.disks = append(c.disks, d)
	if c.Telemetry != nil {
		c.Telemetry.Check("target "+t.name()+" disk", d.check)
	}
	return &Loki{
		poster: p, morgue: m, problems: m.problems, metrics: c.metrics, backoff: m.backoff,
		doubtAfter: doubtAfter, proofs: proofs, name: c.Name,
	}, nil
}

// When a batch is suspected to provoke Loki's server errors, and how often a
// single entry must, see Loki.
const (
	doubtAfter = 4
	proofs     = 3
)
