package delivery

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/egresswarden/egresswarden/eventlog"
)

// envNATS makes the test binary a NATS server in a folder instead.
const envNATS = "EGW_TEST_NATS"

func TestMain(m *testing.M) {
	dir := os.Getenv(envNATS)
	if dir == "" {
		os.Exit(m.Run())
	}
	fmt.Fprintln(os.Stderr, serve(dir))
	os.Exit(1)
}

func serve(dir string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := eventlog.StartServer(eventlog.ServerOptions{Dir: filepath.Join(dir, "nats"), Socket: filepath.Join(dir, "s"), Log: log})
	if err != nil {
		return err
	}
	for err := range s.Failed() {
		fmt.Fprintln(os.Stderr, "failed:", err)
	}
	return nil
}
