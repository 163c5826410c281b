// Command egw-enforcer keeps the gate of this host in step with its containers
// and publishes what the gate decides.
package main

import (
	"context"
	"errors"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/internal/daemon"
	"github.com/egresswarden/egresswarden/internal/telemetry"
)

func main() {
	daemon.Program[enforcer.Config]{
		Name: "egw-enforcer", Config: "/etc/egresswarden/enforcer.yaml", Load: enforcer.LoadConfig,
		Check: enforcer.Config.Check, Run: run,
	}.Main()
}

func run(ctx context.Context, cfg enforcer.Config, log *slog.Logger) error {
	e, err := enforcer.New(cfg, log)
	if err != nil {
		return err
	}
	set := telemetry.New()
	e.Instrument(set)
	metrics, err := set.Listen(cfg.ListenMetrics, log)
	if err != nil {
		return errors.Join(err, e.Close())
	}
	return metrics.Beside(ctx, func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return e.Run(ctx, nil) })
		g.Go(func() error { return daemon.Ready(ctx, e.Attached()) })
		return g.Wait()
	})
}
