package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/schemas"
)

// server runs an event log for a test and gives its address and a way to write.
func server(t *testing.T) (string, *eventlog.Log) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	s, err := eventlog.StartServer(eventlog.ServerOptions{Dir: filepath.Join(t.TempDir(), "nats"), Socket: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	l, err := eventlog.Connect(t.Context(), s.Options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return "unix://" + path, l
}

func TestFollowPrintsNewFlowsUntilInterrupted(t *testing.T) {
	url, l := server(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	w := l.FlowWriter("web-1", "boot")
	defer w.Close()
	record := func(n uint64) {
		f := &schemas.Flow{Id: schemas.FlowID("web-1", "boot", n), Host: "web-1", Workload: fmt.Sprint("w", n), Count: 1}
		if err := w.Write(ctx, []*schemas.Flow{f}, n+1); err != nil {
			t.Error(err)
		}
	}
	record(0)
	for _, output := range []string{"json", "table"} {
		out, in := io.Pipe()
		code := make(chan int)
		go func() {
			code <- run([]string{"flows", "-f", "--nats", url, "-o", output}, nil, in, io.Discard, func(string) string { return "" })
			_ = in.Close()
		}()
		lines := bufio.NewScanner(out)
		seen := func(what string) {
			for lines.Scan() {
				if strings.Contains(lines.Text(), what) {
					return
				}
			}
			t.Fatalf("%s: the output ended before %s", output, what)
		}
		seen("w0")
		next := uint64(1)
		if output == "table" {
			next = 2
		}
		record(next)
		seen(fmt.Sprint("w", next))
		if err := unix.Kill(os.Getpid(), unix.SIGINT); err != nil {
			t.Fatal(err)
		}
		if got := <-code; got != exitInterrupted {
			t.Errorf("%s: exit code %d, want %d", output, got, exitInterrupted)
		}
	}
}

func TestErrorsHaveTheirExitCodes(t *testing.T) {
	for _, test := range []struct {
		err     error
		started bool
		want    int
	}{
		{nil, true, 0},
		{errors.New("x"), true, 1},
		{errors.New("unknown command"), false, 2},
		{usageErrorf("bad flag"), true, 2},
		{fmt.Errorf("workload w: %w", errNotFound), true, 3},
		{fmt.Errorf("stream: %w", eventlog.ErrNotFound), true, 3},
		{fmt.Errorf("approve: %w", errRefused), true, 4},
		{fmt.Errorf("append: %w", eventlog.ErrStale), true, 4},
		{fmt.Errorf("doctor: %w", errUnhealthy), true, 5},
		{fmt.Errorf("ask: %w", eventlog.ErrNoAnswer), true, 5},
	} {
		if got := exitCode(test.err, test.started); got != test.want {
			t.Errorf("%v (started %v): exit code %d, want %d", test.err, test.started, got, test.want)
		}
	}
}

func TestNamesCannotSteerTheTerminal(t *testing.T) {
	for text, want := range map[string]string{
		"shop/web": "shop/web", "é 漢": "é 漢", "\x1b[31m": "\ufffd[31m", "a\nb\tc": "a\ufffdb\ufffdc", "\u009bx": "\ufffdx", "\u202egpj": "\ufffdgpj",
	} {
		if got := printable(text); got != want {
			t.Errorf("printable(%q) = %q, want %q", text, got, want)
		}
	}
}
