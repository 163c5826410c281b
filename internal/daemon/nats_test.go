package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/schemas"
)

func TestConnectWaitsAndSaysForWhat(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	start := func() *eventlog.Server {
		s, err := eventlog.StartServer(eventlog.ServerOptions{Dir: filepath.Join(dir, "nats"), Listen: "127.0.0.1:0", TokenFile: token})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	url := "nats://" + start().Addr().String()
	if err := os.Rename(token, token+".aside"); err != nil {
		t.Fatal(err)
	}
	said := &told{want: "nats.token_file", then: func() {
		if err := os.Rename(token+".aside", token); err != nil {
			t.Error(err)
		}
	}}
	log := slog.New(slog.NewTextHandler(said, nil))
	l, err := NATS{URL: url, TokenFile: token}.Connect(t.Context(), "test", log)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if strings.Count(said.String(), said.want) != 1 {
		t.Errorf("the missing token is not told once:\n%s", said)
	}
}

// told is a log that does something once a thing was said.
type told struct {
	bytes.Buffer
	want string
	then func()
}

func (b *told) Write(text []byte) (int, error) {
	if b.then != nil && bytes.Contains(text, []byte(b.want)) {
		b.then()
		b.then = nil
	}
	return b.Buffer.Write(text)
}

func TestConnectEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	log := slog.New(slog.NewTextHandler(&told{want: "tried again", then: cancel}, nil))
	if _, err := (NATS{Socket: filepath.Join(t.TempDir(), "none")}).Connect(ctx, "test", log); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("%v does not name the socket", err)
	}
}

func TestHalfACertificateIsRefused(t *testing.T) {
	if err := (NATS{CertFile: "c"}).Validate(); err == nil || !strings.Contains(err.Error(), "key_file") {
		t.Error(err)
	}
}

func TestConnectMakesTheNamedStreamsAlone(t *testing.T) {
	dir := t.TempDir()
	s, err := eventlog.StartServer(eventlog.ServerOptions{Dir: filepath.Join(dir, "nats"), Socket: filepath.Join(dir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	connect := func(streams ...string) (dead, policy error) {
		l, err := NATS{Socket: filepath.Join(dir, "s")}.Connect(t.Context(), "test", slog.New(slog.DiscardHandler), streams...)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, dead = l.DeadCount(t.Context())
		_, policy = l.PolicyEnd(t.Context())
		return dead, policy
	}
	if dead, policy := connect(); !errors.Is(dead, eventlog.ErrNotFound) || !errors.Is(policy, eventlog.ErrNotFound) {
		t.Errorf("with none named: %v, %v", dead, policy)
	}
	if dead, policy := connect(schemas.StreamDead); dead != nil || !errors.Is(policy, eventlog.ErrNotFound) {
		t.Errorf("with one named: %v, %v", dead, policy)
	}
}

func TestWrongAddressesNameTheirKey(t *testing.T) {
	for want, n := range map[string]NATS{
		"nats.url": {URL: "foo://x"}, "nats.socket": {Socket: "s"}, "": {URL: "tls://h:4222", Socket: "/s"},
	} {
		if err := n.ValidateClient(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", n, err, want)
		}
	}
	if err := (NATS{}).ValidateClient(); err == nil || (NATS{}).Validate() != nil {
		t.Errorf("no address: %v", err)
	}
}

func TestCheckReadsTheFiles(t *testing.T) {
	dir := t.TempDir()
	empty, good := filepath.Join(dir, "empty"), filepath.Join(dir, "good")
	for path, text := range map[string]string{empty: "\n", good: "x"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for want, n := range map[string]NATS{
		"nats.token_file": {TokenFile: "/nowhere"}, "nats.creds_file": {CredsFile: empty}, "nats.ca_file": {CAFile: good},
		"nats.cert_file": {CertFile: good, KeyFile: good}, "": {TokenFile: good, CredsFile: handedOver + "none.service/token"},
	} {
		if err := n.Check(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", n, err, want)
		}
	}
}
