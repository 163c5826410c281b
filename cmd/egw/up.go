package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/collector"
	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/telemetry"
	"github.com/egresswarden/egresswarden/learner"
	"github.com/egresswarden/egresswarden/policy"
)

const upLong = `Run everything of one host in this process: the enforcer, its NATS server, the
learner and, with --loki, the collector. Needs root, and stays in the foreground until it is interrupted; the
verdicts stay in force then, and egw detach takes them off.

A container is watched with the label egress=learn and held to its allow-list
with egress=block; allow-lists are files WORKLOAD.rules in the policies folder.`

const upExample = `  egw up
  egw up --loki http://loki.example.org:3100
  egw up --data /srv/egw --policies /srv/egw/policies --listen ''`

// upOptions are the flags of egw up.
type upOptions struct {
	enforcer.Config
	loki     collector.Target
	logLevel string
}

// upCommand runs a whole host.
func upCommand(a *app) *cobra.Command {
	o := upOptions{Config: enforcer.DefaultConfig()}
	c := &cobra.Command{
		Use: "up", Short: "Run everything of one host", Long: upLong, Example: upExample, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			a.endless = true
			return up(c.Context(), a, o)
		},
	}
	flags := c.Flags()
	flags.StringVar(&o.Data, "data", o.Data, "folder for the events, the snapshot and the token")
	flags.StringVar(&o.Docker, "docker", a.envOr("DOCKER_HOST", o.Docker), "address of Docker's API ($DOCKER_HOST)")
	flags.StringVar(&o.Policies, "policies", o.Policies, "folder of allow-lists, WORKLOAD.rules each")
	flags.StringVar(&o.Pins, "pins", o.Pins, "folder of the gate's pins, on a BPF file system")
	flags.StringVar(&o.NATS.Listen, "listen", "127.0.0.1:4277", "loopback address for NATS clients with the token; empty: none")
	flags.StringVar(&o.NATS.Socket, "socket", o.NATS.Socket, "unix socket for the tools of this host")
	flags.Var(&o.ListenMetrics, "metrics", "loopback address for metrics, health and readiness; empty: none")
	flags.StringVar(&o.Host, "host", o.Host, "this host's name in events")
	flags.StringVar(&o.DefaultMode, "default-mode", o.DefaultMode, "mode of containers without a label: allow, learn or block")
	flags.StringVar(&o.UnknownContainer, "unknown-container", o.UnknownContainer, "what a container meets that nobody knew at its birth: block or allow")
	flags.StringVar(&o.loki.URL, "loki", "", "deliver the events to this Loki; empty: they stay in the data folder")
	flags.StringVar(&o.loki.Tenant, "loki-tenant", "", "tenant in Loki (X-Scope-OrgID)")
	flags.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	cgroupRootFlag(c, &o.CgroupRoot)
	complete(c, "default-mode", policy.ModeAllow.String(), policy.ModeLearn.String(), policy.ModeBlock.String())
	complete(c, "unknown-container", policy.ModeBlock.String(), policy.ModeAllow.String())
	complete(c, "log-level", "debug", "info", "warn", "error")
	return c
}

func up(ctx context.Context, a *app, o upOptions) (err error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return usageErrorf("log level %q: want debug, info, warn or error", o.logLevel)
	}
	o.NATS.TokenFile = filepath.Join(o.Data, "token")
	if err := o.Validate(); err != nil {
		return usageErrorf("%w", err)
	}
	if err := o.checkLoki(); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
	e, err := enforcer.New(o.Config, log)
	if err != nil {
		return upError(err)
	}
	set := telemetry.New()
	e.Instrument(set)
	metrics, err := set.Listen(o.ListenMetrics, log)
	if err != nil {
		return errors.Join(err, e.Close())
	}
	server, err := o.StartServer(log)
	if err != nil {
		return errors.Join(upError(err), metrics.Close(), e.Close())
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return metrics.Run(ctx) })
	g.Go(func() error { return e.Run(ctx, server) })
	g.Go(func() error { return runLearner(ctx, server, o, set, log) })
	g.Go(func() error { return runCollector(ctx, server, o, set, log) })
	g.Go(func() error { return greet(ctx, a, e, metrics, o) })
	err = g.Wait()
	fmt.Fprintln(a.stderr, "egw: stopped;", farewell(e.LeftInForce()))
	return err
}

func farewell(inForce bool) string {
	if inForce {
		return "the gate stays in force: `egw detach` takes it off"
	}
	return "the gate is NOT attached, nothing is enforced: start `egw up` again"
}

func upError(err error) error {
	if errors.Is(err, enforcer.ErrRunning) {
		return fmt.Errorf("%w (another `egw up` or egw-enforcer has this data folder or these pins: stop it, or name others with --data and --pins)", err)
	}
	if errors.Is(err, eventlog.ErrBusy) {
		return fmt.Errorf("%w (name another place with --listen, --socket or --data; --listen '' does without a port)", err)
	}
	return err
}

// runLearner makes proposals. Without it everything else goes on.
func runLearner(ctx context.Context, server *eventlog.Server, o upOptions, set *telemetry.Set, log *slog.Logger) error {
	events, err := eventlog.Connect(ctx, server.Options())
	if err == nil {
		defer events.Close()
		err = learner.Run(ctx, events, learner.Config{
			Snapshot: filepath.Join(o.Data, "learner.json"), Metrics: set, Log: log.With("part", "learner"),
		})
	}
	if err != nil && ctx.Err() == nil {
		log.Error("learner ended, there will be no proposals until egw up is started again", "err", err)
	}
	return nil
}

// dockerWait is how long the greeting waits for Docker's answer.
const dockerWait = 5 * time.Second

// greet says what is where, once the gate is in force.
func greet(ctx context.Context, a *app, e *enforcer.Enforcer, m *telemetry.Server, o upOptions) error {
	select {
	case <-ctx.Done():
		return nil
	case <-e.Attached():
	}
	s := awaitDocker(ctx, e)
	if ctx.Err() != nil {
		return nil
	}
	lines := [][2]string{
		{"gate", "in force, pinned at " + o.Pins}, {"data", o.Data}, {"policies", filepath.Join(o.Policies, "WORKLOAD.rules")},
		{"socket", o.NATS.Socket}, {"listening", listening(o)}, {"metrics", metricsLine(m)}, {"loki", lokiLine(o)}, {"docker", dockerLine(s, o)},
	}
	for _, l := range lines {
		fmt.Fprintf(a.stderr, "egw: %-10s %s\n", l[0], l[1])
	}
	fmt.Fprint(a.stderr, "egw: label a container egress=learn (docker run --label egress=learn ...) and see what it talks to: egw flows -f\n")
	return nil
}

// awaitDocker gives the status once Docker has answered, or has not for long.
func awaitDocker(ctx context.Context, e *enforcer.Enforcer) enforcer.Status {
	ctx, cancel := context.WithTimeout(ctx, dockerWait)
	defer cancel()
	for {
		s := e.Status()
		if s.Docker || len(s.Problems) > 0 {
			return s
		}
		select {
		case <-ctx.Done():
			return s
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func listening(o upOptions) string {
	if o.NATS.Listen == "" {
		return "at no port"
	}
	return fmt.Sprintf("%s, the token is in %s", o.NATS.Listen, o.NATS.TokenFile)
}

func metricsLine(m *telemetry.Server) string {
	if m.Addr() == "" {
		return "at no port"
	}
	return "http://" + m.Addr() + "/metrics, /healthz, /readyz"
}

func dockerLine(s enforcer.Status, o upOptions) string {
	if !s.Docker {
		return fmt.Sprintf("does not answer at %s; tried until it does, unknown containers meet %s", o.Docker, s.UnknownMode)
	}
	n := 0
	for _, w := range s.Workloads {
		n += len(w.Containers)
	}
	return fmt.Sprintf("answers at %s, %d containers", o.Docker, n)
}
