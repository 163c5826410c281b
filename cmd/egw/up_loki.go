package main

import (
	"context"
	"log/slog"

	"github.com/egresswarden/egresswarden/collector"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/telemetry"
	"github.com/egresswarden/egresswarden/schemas"
)

// checkLoki says what is wrong with the flags of Loki.
func (o upOptions) checkLoki() error {
	if o.loki.URL == "" {
		if o.loki.Tenant != "" {
			return usageErrorf("--loki-tenant goes with --loki")
		}
		return nil
	}
	if _, err := o.loki.PushURL(); err != nil {
		return usageErrorf("--loki: %w", err)
	}
	return nil
}

// runCollector delivers the events to Loki, if one is named. Without it
// everything else goes on, and the events stay in their streams.
func runCollector(ctx context.Context, server *eventlog.Server, o upOptions, set *telemetry.Set, log *slog.Logger) error {
	if o.loki.URL == "" {
		return nil
	}
	events, err := eventlog.Connect(ctx, server.Options())
	if err == nil {
		defer events.Close()
		err = collector.Run(ctx, events, collector.Config{
			Name: schemas.CollectorPrefix + o.Host, Targets: []collector.Target{o.loki},
			Log: log.With("part", "collector"), Telemetry: set,
		})
	}
	if err != nil && ctx.Err() == nil {
		log.Error("collector ended, events stay in the data folder until egw up is started again", "err", err)
	}
	return nil
}

func lokiLine(o upOptions) string {
	if o.loki.URL == "" {
		return "none: events stay in " + o.Data + ", --loki URL forwards them"
	}
	u, err := o.loki.PushURL()
	if err != nil {
		return err.Error()
	}
	return "delivering to " + u.Redacted()
}
