// Command egw-enforcer keeps the gate of this host in step with its containers
// and publishes what the gate decides.
package main

import (
	"context"
	"log/slog"

	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/internal/daemon"
)

func main() {
	daemon.Program[enforcer.Config]{
		Name: "egw-enforcer", Config: "/etc/egresswarden/enforcer.yaml", Load: enforcer.LoadConfig, Run: run,
	}.Main()
}

func run(ctx context.Context, cfg enforcer.Config, log *slog.Logger) error {
	e, err := enforcer.New(cfg, log)
	if err != nil {
		return err
	}
	return e.Run(ctx, nil)
}
