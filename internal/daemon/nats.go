package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
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

// Validate names every key that is wrong. That there is an address is for the
// daemon to ask for.
func (n NATS) Validate() error {
	if (n.CertFile == "") != (n.KeyFile == "") {
		return errors.New("nats: cert_file and key_file belong together")
	}
	return nil
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
