package collector

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/daemon"
	"github.com/egresswarden/egresswarden/internal/telemetry"
	"github.com/egresswarden/egresswarden/schemas"
)

// Config says what goes where. The YAML keys are those of the collector's
// configuration file.
type Config struct {
	// Name is the collector's in its own events; it begins with collector@.
	Name    string      `yaml:"name"`
	NATS    daemon.NATS `yaml:"nats"`
	Targets []Target    `yaml:"targets"`
	// ListenMetrics is the loopback address of metrics and health.
	ListenMetrics telemetry.Address `yaml:"listen_metrics"`

	// TakeoverSeconds is how long a collector may be silent before another, or
	// itself started anew, takes its place; 0 is 20. All with the same targets
	// must have the same.
	TakeoverSeconds float64 `yaml:"takeover_seconds"`

	// Log and Telemetry may be nil.
	Log       *slog.Logger   `yaml:"-"`
	Telemetry *telemetry.Set `yaml:"-"`

	// Of tests.
	wait, aliveEvery, disksEvery time.Duration
}

// DefaultConfig is what a configuration file starts from.
func DefaultConfig() Config {
	return Config{
		Name: DefaultName(), NATS: daemon.NATS{Socket: eventlog.DefaultSocket},
		ListenMetrics: telemetry.Default("127.0.0.1:9742"),
	}
}

// DefaultName names the collector of this machine.
func DefaultName() string {
	host, _ := os.Hostname()
	return schemas.CollectorPrefix + host
}

// LoadConfig reads a YAML file over the defaults. Unknown keys are errors.
func LoadConfig(path string) (Config, error) {
	cfg := DefaultConfig()
	err := daemon.ReadConfig(path, &cfg)
	return cfg, err
}

// LoadConfigFor is LoadConfig with one target in the place of all that the file
// names; the file need not be there.
func LoadConfigFor(path string, t Target) (Config, error) {
	cfg := oneTarget{DefaultConfig(), t}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		err = cfg.Validate()
		return cfg.Config, err
	}
	err := daemon.ReadConfig(path, &cfg)
	return cfg.Config, err
}

// oneTarget is a configuration that gets its target from elsewhere.
type oneTarget struct {
	Config `yaml:",inline"`
	target Target
}

// Validate puts the target in the place of those that were read.
func (o *oneTarget) Validate() error {
	o.Targets = []Target{o.target}
	return o.Config.Validate()
}

// absolute is the name by which one file is known, empty for none.
func absolute(file string) string {
	if file == "" {
		return ""
	}
	if abs, err := filepath.Abs(file); err == nil {
		return abs
	}
	return filepath.Clean(file)
}

// mostTakeover is an hour: a collector that is gone is missed by then.
const mostTakeover = 3600

// Validate names every key that is wrong.
func (c Config) Validate() error {
	var errs []error
	if !strings.HasPrefix(c.Name, schemas.CollectorPrefix) {
		errs = append(errs, fmt.Errorf("name: %q: must begin with %s, so that nobody takes it for a host", c.Name, schemas.CollectorPrefix))
	}
	errs = append(errs, c.NATS.ValidateClient())
	if err := c.ListenMetrics.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("listen_metrics: %w", err))
	}
	if s := c.TakeoverSeconds; s != 0 && !(s >= 1 && s <= mostTakeover) {
		errs = append(errs, fmt.Errorf("takeover_seconds: %g: want 1 to %d, or 0 for the default", s, mostTakeover))
	}
	if len(c.Targets) == 0 {
		errs = append(errs, errors.New("targets: name at least one, with url, file or stdout"))
	}
	known, files := map[string]bool{}, map[string]int{}
	for i, t := range c.Targets {
		if err := t.validate(); err != nil {
			errs = append(errs, fmt.Errorf("targets[%d]: %w", i, err))
		}
		if known[t.name()] {
			errs = append(errs, fmt.Errorf("targets[%d].name: %q is there twice: each target keeps its own place in the events under its name", i, t.name()))
		}
		known[t.name()] = true
		if file := absolute(t.File); file != "" {
			if other, is := files[file]; is {
				errs = append(errs, fmt.Errorf("targets[%d].file: %s is that of targets[%d] too: each target needs one of its own", i, t.File, other))
			}
			files[file] = i
		}
	}
	return errors.Join(errs...)
}

// Check opens every file that the configuration names, and changes none.
func (c Config) Check() error {
	errs := []error{c.NATS.Check()}
	for i, t := range c.Targets {
		if err := t.check(); err != nil {
			errs = append(errs, fmt.Errorf("targets[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

func (c Config) logger() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}

// takeover is the consumers': what the silent one held comes back a little
// later than its place is given away.
func (c Config) takeover() (pinTTL, ackWait time.Duration) {
	pinTTL = time.Duration(c.TakeoverSeconds * float64(time.Second))
	return pinTTL, pinTTL * 3 / 2
}

func (c Config) diskEvery() time.Duration {
	if c.disksEvery != 0 {
		return c.disksEvery
	}
	return diskEvery
}

func (c Config) every() time.Duration {
	if c.aliveEvery != 0 {
		return c.aliveEvery
	}
	return aliveEvery
}
