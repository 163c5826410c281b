package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
)

// NATS are the keys that say where the event log is, and how to get in.
type NATS struct {
	// URL is nats://, tls:// or unix://; empty is the server of this host, at
	// Socket.
	URL       string `yaml:"url"`
	TokenFile string `yaml:"token_file"`
	CredsFile string `yaml:"creds_file"`
	CAFile    string `yaml:"ca_file"`
	CertFile  string `yaml:"cert_file"`
	KeyFile   string `yaml:"key_file"`
	Socket    string `yaml:"socket"`
}

// Validate names every key that is wrong. A daemon without a server of its own
// asks for an address besides, see ValidateClient.
func (n NATS) Validate() error {
	var errs []error
	if (n.CertFile == "") != (n.KeyFile == "") {
		errs = append(errs, errors.New("nats: cert_file and key_file belong together"))
	}
	if n.URL != "" {
		if err := eventlog.CheckAddress(n.URL); err != nil {
			errs = append(errs, fmt.Errorf("nats.url: %w", err))
		}
	}
	if n.Socket != "" && !filepath.IsAbs(n.Socket) {
		errs = append(errs, errors.New("nats.socket: must be an absolute path"))
	}
	return errors.Join(errs...)
}

// ValidateClient is Validate for a daemon that is a client alone.
func (n NATS) ValidateClient() error {
	if n.URL == "" && n.Socket == "" {
		return errors.Join(n.Validate(), errors.New("nats: url or socket must be set"))
	}
	return n.Validate()
}

// handedOver is where systemd puts the credentials of a unit, while it runs.
const handedOver = "/run/credentials/"

// Check reads every file that is named, and changes none. One that systemd hands
// over may be missing.
func (n NATS) Check() error {
	secret := func(key, file string) error {
		err := CheckSecret(key, file)
		if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(file, handedOver) {
			return nil
		}
		return err
	}
	return errors.Join(
		secret("nats.token_file", n.TokenFile), secret("nats.creds_file", n.CredsFile),
		CheckAuthorities("nats.ca_file", n.CAFile), CheckPair("nats", n.CertFile, n.KeyFile),
	)
}

// Options connect under a name.
func (n NATS) Options(name string, log *slog.Logger) eventlog.Options {
	url := n.URL
	if url == "" {
		url = "unix://" + n.Socket
	}
	return eventlog.Options{
		URL: url, TokenFile: n.TokenFile, CredsFile: n.CredsFile, CAFile: n.CAFile, CertFile: n.CertFile, KeyFile: n.KeyFile,
		Name: name, Log: log,
	}
}

const (
	connectMin = 100 * time.Millisecond
	connectMax = 5 * time.Second
)

// Connect tries until the event log is there or ctx ends. It logs each new
// error. Of the streams it makes those that are named, and leaves the others to
// the enforcers, who know their bounds.
func (n NATS) Connect(ctx context.Context, name string, log *slog.Logger, streams ...string) (*eventlog.Log, error) {
	last := ""
	for wait := connectMin; ; wait = min(2*wait, connectMax) {
		l, err := n.connect(ctx, name, log, streams)
		if err == nil {
			return l, nil
		}
		if text := err.Error(); text != last && ctx.Err() == nil {
			last = text
			log.Warn("the event log is not there, and is tried again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}

func (n NATS) connect(ctx context.Context, name string, log *slog.Logger, streams []string) (*eventlog.Log, error) {
	// The client library would be refused without a word on the file.
	for key, path := range map[string]string{"token_file": n.TokenFile, "creds_file": n.CredsFile, "ca_file": n.CAFile,
		"cert_file": n.CertFile, "key_file": n.KeyFile} {
		if path == "" {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("nats.%s: %w", key, err)
		}
		if err := f.Close(); err != nil {
			return nil, fmt.Errorf("nats.%s: %w", key, err)
		}
	}
	o := n.Options(name, log)
	o.ReadOnly, o.Streams = len(streams) == 0, streams
	return eventlog.Connect(ctx, o)
}
