package eventlog

import (
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/schemas"
)

func TestErrorsDoNotTellSecretsOfTheAddress(t *testing.T) {
	for url, want := range map[string]string{
		"nats://ann:geheim@127.0.0.1:1":                  "127.0.0.1:1",
		"nats://geheim@127.0.0.1:1":                      "127.0.0.1:1",
		"geheim@127.0.0.1:1,nats://a:geheim@127.0.0.1:2": "127.0.0.1:1,127.0.0.1:2",
		"unix:///none/a@b.sock":                          "unix:///none/a@b.sock",
		"nats://ann:ge%zzheim@127.0.0.1:1":               "127.0.0.1:1",
	} {
		_, err := Connect(t.Context(), Options{URL: url})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "heim") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestAConnectionThatIsMadeAgainMakesNoMoreStreams(t *testing.T) {
	server := startServer(t)
	nc, err := nats.Connect("", nats.InProcessServer(server))
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLog(nc, Options{Streams: []string{schemas.StreamDead}}, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// It may break off before anything else was done with it.
	if err := nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, "the named stream is made", func() error {
		_, err := l.js.Stream(testContext(t), schemas.StreamDead)
		return err
	})
	if _, err := l.js.Stream(testContext(t), schemas.StreamPolicy); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("another stream: %v", err)
	}
}
