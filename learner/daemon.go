package learner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/daemon"
	"github.com/egresswarden/egresswarden/internal/telemetry"
)

// Daemon is the configuration file of egw-learner. Of the numbers 0 is the
// default.
type Daemon struct {
	NATS daemon.NATS `yaml:"nats"`
	// Snapshot is the file that keeps the evidence over restarts.
	Snapshot string `yaml:"snapshot"`
	// CapIPv4 and CapIPv6 are the shortest prefixes that are proposed.
	CapIPv4 int `yaml:"cap_ipv4"`
	CapIPv6 int `yaml:"cap_ipv6"`
	// RuleCost is how many addresses never seen one rule less is worth.
	RuleCost float64 `yaml:"rule_cost"`
	// WindowDays is how long evidence is kept after it was last seen.
	WindowDays float64 `yaml:"window_days"`
	// UnusedDays is the age at which a rule that nothing uses is proposed for
	// removal.
	UnusedDays float64 `yaml:"unused_days"`
	// MaxProposals bounds the open proposals of one policy.
	MaxProposals int `yaml:"max_proposals"`
	// MaxDestinations bounds the memory of one policy, MaxTotal that of all.
	MaxDestinations int `yaml:"max_destinations"`
	MaxTotal        int `yaml:"max_destinations_total"`
	// ListenMetrics is the loopback address of the metrics; empty is none.
	ListenMetrics telemetry.Address `yaml:"listen_metrics"`
}

// DefaultDaemon is what a configuration file starts from.
func DefaultDaemon() Daemon {
	return Daemon{
		NATS: daemon.NATS{Socket: eventlog.DefaultSocket}, Snapshot: "/var/lib/egw-learner/evidence",
		ListenMetrics: telemetry.Default("127.0.0.1:9743"),
	}
}

// LoadDaemon reads a YAML file over the defaults. Unknown keys are errors.
func LoadDaemon(path string) (Daemon, error) {
	d := DefaultDaemon()
	err := daemon.ReadConfig(path, &d)
	return d, err
}

// Validate names every key that is wrong.
func (d Daemon) Validate() error {
	errs := []error{d.NATS.ValidateClient()}
	if err := d.ListenMetrics.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("listen_metrics: %w", err))
	}
	if d.Snapshot == "" {
		errs = append(errs, errors.New("snapshot: must name a file"))
	}
	for _, n := range []struct {
		key             string
		value           float64
		lowest, highest float64
	}{
		{"cap_ipv4", float64(d.CapIPv4), 8, 32}, {"cap_ipv6", float64(d.CapIPv6), 32, 128}, {"rule_cost", d.RuleCost, 0, 1 << 20},
		{"window_days", d.WindowDays, 1, maxDays}, {"unused_days", d.UnusedDays, 1, maxDays},
		{"max_proposals", float64(d.MaxProposals), 1, 100_000}, {"max_destinations", float64(d.MaxDestinations), 1, math.MaxInt32},
		{"max_destinations_total", float64(d.MaxTotal), 1, math.MaxInt32},
	} {
		if n.value != 0 && !(n.value >= n.lowest && n.value <= n.highest) {
			errs = append(errs, fmt.Errorf("%s: want %.0f to %.0f, or 0 for the default", n.key, n.lowest, n.highest))
		}
	}
	return errors.Join(errs...)
}

// Check reads every file that the configuration names, and changes none.
func (d Daemon) Check() error { return d.NATS.Check() }

func (d Daemon) options() Options {
	days := func(n float64) time.Duration { return time.Duration(n * float64(24*time.Hour)) }
	return Options{
		RuleCost: d.RuleCost, Cap4: d.CapIPv4, Cap6: d.CapIPv6, Window: days(d.WindowDays), Unused: days(d.UnusedDays),
		Limits: Limits{Open: d.MaxProposals, Destinations: d.MaxDestinations, Total: d.MaxTotal},
	}
}

// Run connects, and learns until ctx ends.
func (d Daemon) Run(ctx context.Context, log *slog.Logger) error {
	if err := os.MkdirAll(filepath.Dir(d.Snapshot), 0o700); err != nil {
		return fmt.Errorf("make the snapshot's folder: %w", err)
	}
	set := telemetry.New()
	metrics, err := set.Listen(d.ListenMetrics, log)
	if err != nil {
		return err
	}
	return metrics.Beside(ctx, func(ctx context.Context) error { return d.learn(ctx, set, log) })
}

func (d Daemon) learn(ctx context.Context, set *telemetry.Set, log *slog.Logger) error {
	set.Check("learner_event_log", func() error { return errors.New("the event log was not reached yet") })
	events, err := d.NATS.Connect(ctx, "egw-learner", log)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	defer events.Close()
	return Run(ctx, events, Config{Options: d.options(), Snapshot: d.Snapshot, Metrics: set, Log: log})
}
