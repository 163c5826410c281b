package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/egresswarden/egresswarden/eventlog"
)

// connect reaches the event log. Close it.
func (a *app) connect(ctx context.Context) (*eventlog.Log, error) {
	for _, file := range [][2]string{
		{"--token-file", a.token}, {"--creds", a.creds}, {"--tls-ca", a.tls.ca}, {"--tls-cert", a.tls.cert}, {"--tls-key", a.tls.key},
	} {
		// The client library would be refused without a word on the file.
		if err := readableFile(file[1]); err != nil {
			return nil, fmt.Errorf("%s: %w", file[0], err)
		}
	}
	l, err := eventlog.Connect(ctx, eventlog.Options{
		URL: a.nats, TokenFile: a.token, CredsFile: a.creds,
		CAFile: a.tls.ca, CertFile: a.tls.cert, KeyFile: a.tls.key,
		Name: "egw", ReadOnly: true,
	})
	if err != nil {
		return nil, a.connectError(err)
	}
	return l, nil
}

func readableFile(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// connectError says what to do about it.
func (a *app) connectError(err error) error {
	switch {
	case errors.Is(err, eventlog.ErrAddress):
		return usageErrorf("--nats: %w", err)
	case errors.Is(err, eventlog.ErrVersion):
		return err
	case errors.Is(err, eventlog.ErrAccess) && a.token+a.creds+a.tls.cert == "":
		return fmt.Errorf("%w (name the token of `egw up`, DATA/token, with --token-file, or a user's credentials with --creds)", err)
	case errors.Is(err, eventlog.ErrAccess):
		return fmt.Errorf("%w (is the file that was named the one that this server made, or knows?)", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w (the socket is for root: use sudo, or --nats with a token)", err)
	case strings.HasPrefix(a.nats, "unix://"):
		return fmt.Errorf("%w (is the enforcer or `egw up` running on this host? else name a server with --nats)", err)
	}
	return fmt.Errorf("%w (is a NATS server running there, and within reach?)", err)
}
