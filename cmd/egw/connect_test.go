package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/eventlog"
)

func TestWhoIsNotLetInIsToldOfTheToken(t *testing.T) {
	dir := t.TempDir()
	token, wrong := filepath.Join(dir, "token"), filepath.Join(dir, "wrong")
	s, err := eventlog.StartServer(eventlog.ServerOptions{Dir: filepath.Join(dir, "nats"), Listen: "127.0.0.1:0", TokenFile: token})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := os.WriteFile(wrong, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	flows := []string{"flows", "--nats", "nats://" + s.Addr().String()}
	for says, args := range map[string][]string{
		"name the token of `egw up`, DATA/token, with --token-file": flows,
		"is the file that was named the one":                        append(flows, "--token-file", wrong),
	} {
		if r := egw(t, args...).want(t, exitError); !strings.Contains(r.stderr, says) || !strings.Contains(r.stderr, "does not let us in") {
			t.Errorf("%v: no %q in: %s", args, says, r.stderr)
		}
	}
	// Nothing was recorded, so the stream is not there.
	egw(t, append(flows, "--token-file", token)...).want(t, exitNotFound)
}

func TestAPortThatIsTakenNamesTheFlag(t *testing.T) {
	for sentinel, flag := range map[error]string{eventlog.ErrBusy: "--listen", enforcer.ErrRunning: "--pins"} {
		if err := upError(fmt.Errorf("start: %w", sentinel)); !errors.Is(err, sentinel) || !strings.Contains(err.Error(), flag) {
			t.Errorf("%v: no %s", err, flag)
		}
	}
}
