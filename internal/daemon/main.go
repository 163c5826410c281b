// Package daemon is what the mains of the daemons have in common: flags,
// strict configuration files, signals and exit codes.
package daemon

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/egresswarden/egresswarden/internal/version"
)

// Program is a daemon with a configuration of type C.
type Program[C any] struct {
	// Name is what people call it, Config where its configuration file is.
	Name, Config string
	// Load reads and validates a configuration file.
	Load func(path string) (C, error)
	// Flags, if set, adds the program's own flags.
	Flags func(*flag.FlagSet)
	// Check, if set, is what -check does with a valid configuration. It changes
	// nothing.
	Check func(C) error
	// Run works until its context ends, which is no error.
	Run func(context.Context, C, *slog.Logger) error
}

// Main runs the program until SIGINT or SIGTERM, and exits: with 2 when it was
// called or configured wrongly, with 1 when it ended by itself.
func (p Program[C]) Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(p.run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func (p Program[C]) run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	config := fs.String("config", p.Config, "configuration `file`")
	check := fs.Bool("check", false, "read the configuration, say what is wrong with it, and end")
	level := fs.String("log-level", "info", "debug, info, warn or error")
	showVersion := fs.Bool("version", false, "print the version and end")
	if p.Flags != nil {
		p.Flags(fs)
	}
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(stderr, "%s takes no arguments, but was given %q: see %s -help\n", p.Name, fs.Args(), p.Name)
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
	cfg, err := p.Load(*config)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	if *check {
		if p.Check != nil {
			if err := p.Check(cfg); err != nil {
				fmt.Fprintf(stderr, "%s: %v\n", *config, err)
				return 2
			}
		}
		fmt.Fprintln(stdout, *config, "is right")
		return 0
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: l}))
	if err := p.Run(ctx, cfg, log); err != nil {
		log.Error("ended", "program", p.Name, "err", err)
		return 1
	}
	return 0
}
