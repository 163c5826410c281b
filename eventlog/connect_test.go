package eventlog

import (
	"strings"
	"testing"
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
