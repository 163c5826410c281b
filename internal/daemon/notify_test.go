package daemon

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"
)

func TestReady(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Ready(ended, make(chan struct{})); err != nil {
		t.Errorf("at the end of the context: %v", err)
	}
	at := make(chan struct{})
	close(at)
	if err := Ready(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if err := systemd.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	var b [64]byte
	n, err := systemd.Read(b[:])
	if err != nil || string(b[:n]) != "READY=1" {
		t.Errorf("systemd was told %q, %v", b[:n], err)
	}
}

func TestReadyWithoutSystemd(t *testing.T) {
	at := make(chan struct{})
	close(at)
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Ready(t.Context(), at); err != nil {
		t.Errorf("where nobody asks: %v", err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	if err := Ready(t.Context(), at); err == nil {
		t.Error("no error where nobody listens")
	}
}
