package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/collector"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/telemetry"
)

func TestUpDeliversToLoki(t *testing.T) {
	pushed := make(chan *http.Request, 1)
	loki := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			return // it asks for more than pushes
		}
		select {
		case pushed <- r:
		default:
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer loki.Close()
	server, err := eventlog.StartServer(eventlog.ServerOptions{Dir: filepath.Join(t.TempDir(), "nats")})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	o := upOptions{loki: collector.Target{URL: strings.Replace(loki.URL, "//", "//u:hunter2@", 1), Tenant: "team-a"}}
	o.Host, o.Data = "web-1", "/data"
	if line := lokiLine(o); !strings.HasPrefix(line, "delivering to http://u:xxxxx@127.0.0.1:") || !strings.HasSuffix(line, "/loki/api/v1/push") {
		t.Errorf("it says %s", line)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- runCollector(ctx, server, o, telemetry.New(), slog.New(slog.DiscardHandler)) }()
	r := <-pushed // its own event, at least
	if r.Header.Get("X-Scope-OrgID") != "team-a" {
		t.Errorf("pushed with %v", r.Header)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	o.loki = collector.Target{}
	if line := lokiLine(o); line != "none: events stay in /data, --loki URL forwards them" {
		t.Errorf("it says %s", line)
	}
}

func TestUpRefusesAWrongLoki(t *testing.T) {
	for args, says := range map[string]string{
		"up --loki ftp://u:hunter2@l": "want http(s)://HOST:PORT",
		"up --loki-tenant x":          "goes with --loki",
	} {
		code, _, errs := cli{t: t}.run(strings.Fields(args)...)
		if code != exitUsage || !strings.Contains(errs, says) || strings.Contains(errs, "hunter2") {
			t.Errorf("egw %s: exit code %d: %s", args, code, errs)
		}
	}
}
