// Command egw-learner turns the recorded flows of all hosts into proposals,
// which change nothing until somebody approves them.
package main

import (
	"context"
	"log/slog"

	"github.com/egresswarden/egresswarden/internal/daemon"
	"github.com/egresswarden/egresswarden/learner"
)

func main() {
	daemon.Program[learner.Daemon]{
		Name: "egw-learner", Config: "/etc/egresswarden/learner.yaml", Load: learner.LoadDaemon, Check: learner.Daemon.Check,
		Run: func(ctx context.Context, d learner.Daemon, log *slog.Logger) error { return d.Run(ctx, log) },
	}.Main()
}
