package enforcer

import (
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"path/filepath"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/daemon"
	"github.com/egresswarden/egresswarden/internal/telemetry"
	"github.com/egresswarden/egresswarden/policy"
)

// Config is the enforcer's configuration file.
type Config struct {
	// Host names this host in events; empty is the system's host name.
	Host string `yaml:"host"`
	// Data is the folder for the snapshot and the outbox.
	Data string `yaml:"data"`
	// Pins is the folder of the gate's pins, on a BPF file system.
	Pins string `yaml:"pins"`
	// Policies is a folder of allow-lists, <policy>.rules each.
	Policies string `yaml:"policies"`
	// Docker is the address of the engine's API.
	Docker string `yaml:"docker"`
	// DefaultMode is the mode of containers without a label: allow, learn or
	// block.
	DefaultMode string `yaml:"default_mode"`
	// UnknownContainer is what a container meets that nobody knew at its
	// birth: block or allow.
	UnknownContainer string `yaml:"unknown_container"`
	// SettleSeconds is how long a container may be missing from Docker's
	// lists before it is forgotten.
	SettleSeconds float64 `yaml:"settle_seconds"`
	NATS          NATS    `yaml:"nats"`
	// DNS bounds the questions to Docker's resolver.
	DNS DNS `yaml:"dns"`
	// ListenMetrics is a loopback address for metrics, health and readiness;
	// empty is none.
	ListenMetrics telemetry.Address `yaml:"listen_metrics"`

	// Sizes of the gate; 0 is the default.
	RingBytes     uint32 `yaml:"ring_bytes"`
	FlowEntries   uint32 `yaml:"flow_entries"`
	TablePrefixes uint32 `yaml:"table_prefixes"`
	// CgroupRoot is where the gate attaches; empty is the root of cgroup v2.
	CgroupRoot string `yaml:"cgroup_root"`
}

// NATS says where events go. Without a URL the enforcer runs its own server
// with no port, reached through Socket.
type NATS struct {
	daemon.NATS `yaml:",inline"`
	// Listen is a loopback host:port that the own server listens at, guarded
	// by TokenFile; empty is none.
	Listen string `yaml:"listen"`
	// MaxFlowBytes bounds the flow stream of the own server.
	MaxFlowBytes int64 `yaml:"max_flow_bytes"`
}

// Validate names every key that is wrong.
func (n NATS) Validate() error {
	errs := []error{n.NATS.Validate()}
	if n.URL == "" && n.Socket == "" && n.Listen == "" {
		errs = append(errs, errors.New("nats: url, or socket or listen of an own server, must be set"))
	}
	if n.MaxFlowBytes < 0 {
		errs = append(errs, errors.New("nats.max_flow_bytes: must not be negative"))
	}
	if n.Listen == "" {
		return errors.Join(errs...)
	}
	if n.URL != "" {
		errs = append(errs, errors.New("nats.listen: has no meaning with nats.url"))
	}
	if err := eventlog.CheckListen(n.Listen); err != nil {
		errs = append(errs, fmt.Errorf("nats.listen: %w", err))
	}
	if n.TokenFile == "" {
		errs = append(errs, errors.New("nats.token_file: must be set with nats.listen; it is made where it is missing"))
	}
	return errors.Join(errs...)
}

// DefaultConfig is what a configuration file starts from.
func DefaultConfig() Config {
	host, _ := os.Hostname()
	return Config{
		Host:             host,
		Data:             "/var/lib/egresswarden",
		Pins:             "/sys/fs/bpf/egresswarden",
		Policies:         "/etc/egresswarden/policies",
		Docker:           "unix:///var/run/docker.sock",
		DefaultMode:      policy.ModeAllow.String(),
		UnknownContainer: policy.ModeBlock.String(),
		SettleSeconds:    30,
		DNS:              DNS{QuestionsPerSecond: 50, OctetsPerSecond: 4000, LongestName: 150},
		NATS:             NATS{NATS: daemon.NATS{Socket: eventlog.DefaultSocket}},
		ListenMetrics:    telemetry.Default("127.0.0.1:9741"),
	}
}

// LoadConfig reads a YAML file over the defaults. Unknown keys are errors.
func LoadConfig(path string) (Config, error) {
	cfg := DefaultConfig()
	err := daemon.ReadConfig(path, &cfg)
	return cfg, err
}

// Validate names every key that is wrong.
func (c Config) Validate() error {
	var errs []error
	for key, value := range map[string]string{"host": c.Host, "data": c.Data, "pins": c.Pins, "docker": c.Docker} {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s: must not be empty", key))
		}
	}
	if _, err := policy.ParseMode(c.DefaultMode); err != nil {
		errs = append(errs, fmt.Errorf("default_mode: %w", err))
	}
	if c.UnknownContainer != "block" && c.UnknownContainer != "allow" {
		errs = append(errs, fmt.Errorf("unknown_container: %q: want block or allow", c.UnknownContainer))
	}
	if err := c.ListenMetrics.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("listen_metrics: %w", err))
	}
	if c.SettleSeconds < 0 {
		errs = append(errs, errors.New("settle_seconds: must not be negative"))
	}
	if n := c.RingBytes; n != 0 && (bits.OnesCount32(n) != 1 || n < uint32(os.Getpagesize())) {
		errs = append(errs, fmt.Errorf("ring_bytes: %d: want a power of two, at least a page, or 0 for the default", n))
	}
	return errors.Join(append(errs, c.NATS.Validate(), c.DNS.validate())...)
}

// Check reads every file that the configuration names, and changes none.
func (c Config) Check() error {
	n := c.NATS.NATS
	if _, err := os.Stat(n.TokenFile); n.URL == "" && errors.Is(err, os.ErrNotExist) {
		n.TokenFile = "" // the own server makes it
	}
	return n.Check()
}

func (c Config) defaultMode() policy.Mode {
	m, _ := policy.ParseMode(c.DefaultMode)
	return m
}

func (c Config) unknownMode() policy.Mode {
	m, _ := policy.ParseMode(c.UnknownContainer)
	return m
}

func (c Config) settle() time.Duration { return time.Duration(c.SettleSeconds * float64(time.Second)) }

func (c Config) snapshotPath() string { return filepath.Join(c.Data, "snapshot.json") }

// StartServer starts the host's own NATS server as configured.
func (c Config) StartServer(log *slog.Logger) (*eventlog.Server, error) {
	return eventlog.StartServer(eventlog.ServerOptions{
		Dir: filepath.Join(c.Data, "nats"), Socket: c.NATS.Socket, Listen: c.NATS.Listen,
		TokenFile: c.NATS.TokenFile, MaxFlowBytes: c.NATS.MaxFlowBytes, Log: log,
	})
}
