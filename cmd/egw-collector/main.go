// Command egw-collector carries the events from NATS JetStream to Loki, a file
// or the standard output.
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"

	"github.com/egresswarden/egresswarden/collector"
	"github.com/egresswarden/egresswarden/internal/daemon"
	"github.com/egresswarden/egresswarden/internal/telemetry"
	"github.com/egresswarden/egresswarden/schemas"
)

func main() {
	var instead collector.Target
	daemon.Program[collector.Config]{
		Name: "egw-collector", Config: "/etc/egresswarden/collector.yaml",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&instead.File, "file", "", "append to this `file` instead of serving the targets of the configuration")
			fs.BoolVar(&instead.Stdout, "stdout", false, "print instead of serving the targets of the configuration")
		},
		Load: func(path string) (collector.Config, error) {
			if instead.File == "" && !instead.Stdout {
				return collector.LoadConfig(path)
			}
			return collector.LoadConfigFor(path, instead)
		},
		Check: collector.Config.Check,
		Run:   run,
	}.Main()
}

func run(ctx context.Context, cfg collector.Config, log *slog.Logger) error {
	cfg.Log, cfg.Telemetry = log, telemetry.New()
	metrics, err := cfg.Telemetry.Listen(cfg.ListenMetrics, log)
	if err != nil {
		return err
	}
	cfg.Telemetry.Check(collector.CheckEventLog, func() error { return errors.New("the event log was not reached yet") })
	return metrics.Beside(ctx, func(ctx context.Context) error {
		events, err := cfg.NATS.Connect(ctx, cfg.Name, log, schemas.StreamDead)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		defer events.Close()
		return collector.Run(ctx, events, cfg)
	})
}
