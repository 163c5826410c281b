// Command egw-enforcer keeps the gate of this host in step with its containers
// and publishes what the gate decides.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("egw-enforcer", flag.ContinueOnError)
	fs.SetOutput(stderr)
	config := fs.String("config", "/etc/egresswarden/enforcer.yaml", "configuration `file`")
	check := fs.Bool("check", false, "read the configuration, say what is wrong with it, and end")
	level := fs.String("log-level", "info", "debug, info, warn or error")
	showVersion := fs.Bool("version", false, "print the version and end")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	if *showVersion {
		fmt.Fprintln(stdout, version.String())
		return 0
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(*level)); err != nil {
		fmt.Fprintln(stderr, "-log-level:", err)
		return 2
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: l}))
	cfg, err := enforcer.LoadConfig(*config)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	if *check {
		fmt.Fprintln(stdout, *config, "is right")
		return 0
	}
	e, err := enforcer.New(cfg, log)
	if err == nil {
		err = e.Run(ctx, nil)
	}
	if err != nil {
		log.Error("enforcer ended", "err", err)
		return 1
	}
	return 0
}
