package collector

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/schemas"
)

// wantLines waits until the file has n lines.
func wantLines(t testing.TB, path string, n int) []string {
	t.Helper()
	var lines []string
	testutil.Eventually(t, path, func() error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if got := bytes.Count(text, []byte("\n")); got != n {
			return fmt.Errorf("%d of %d lines", got, n)
		}
		lines = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		return nil
	})
	return lines
}

func TestAFileGetsEveryLineOnceAndIsFollowedWhenRenamed(t *testing.T) {
	b := newBench(t)
	path := filepath.Join(t.TempDir(), "events.jsonl")
	target := Target{File: path}
	b.publish(0, 100, 10)
	stop := b.collect(target)
	for n, line := range wantLines(t, path, 101) { // its own event is among them
		if !strings.HasPrefix(line, `{"`) || !strings.HasSuffix(line, "}") {
			t.Fatalf("line %d: %s", n, line)
		}
	}
	b.drained(target)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	b.publish(100, 110, 10)
	wantLines(t, path, 10)
	b.drained(target)
	stop()
	text, err := os.ReadFile(path + ".1")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range idsBut(100) {
		if n := strings.Count(string(text), `"`+id+`"`); n != 1 {
			t.Errorf("%s is there %d times", id, n)
		}
	}
	// A crash has left half a line; its event comes again.
	if err := os.WriteFile(path, []byte("{\"a\":1}\n{\"time\":\"20"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.publish(110, 111, 1)
	b.collect(target)
	b.drained(target)
	lines := wantLines(t, path, 3)
	if lines[0] != `{"a":1}` || strings.Contains(strings.Join(lines, ""), `"20{`) {
		t.Errorf("lines %q", lines)
	}
}

func TestAFileThatIsNotOursIsRefused(t *testing.T) {
	dir := t.TempDir()
	ours, link, fifo := filepath.Join(dir, "ours"), filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	taken, err := openFile(ours)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := os.Symlink(ours, link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"another collector has it": ours, "a symbolic link": link, "a pipe": fifo, "somebody's text": write(t, "notes", "Dear diary\n"),
		"one byte": write(t, "one", "x"),
	} {
		f, err := openFile(path)
		if err == nil {
			f.Close()
		}
		if !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text, err := os.ReadFile(link); err != nil || len(text) != 0 {
		t.Errorf("%q was written, %v", text, err)
	}
}

func TestAFullDiskIsNamedAndLosesNothing(t *testing.T) {
	testutil.Privileged(t)
	const room = 1 << 20
	b, dir := newBench(t), t.TempDir()
	testutil.SmallDisk(t, dir, room)
	target := Target{File: filepath.Join(dir, "events.jsonl")}
	b.collect(target)
	b.publish(0, 10, 10)
	wantLines(t, target.File, 11) // its own event is among them
	b.publish(10, 1010, 1000, func(_ int, f *schemas.Flow) { f.Image = strings.Repeat("x", 2*room/1000) })
	says := "file " + target.File + " cannot be written: its disk is full: make room"
	testutil.Eventually(t, "the full disk is told", func() error {
		if code, text := b.ready(); code != http.StatusServiceUnavailable || !strings.Contains(text, says) {
			return fmt.Errorf("readiness answers %d %s", code, text)
		}
		return nil
	})
	if n := b.pending(target); n == 0 {
		t.Error("what is not in the file is acknowledged")
	}
	if n := b.said.count(says); n != 1 {
		t.Errorf("told %d times", n)
	}
	testutil.ResizeDisk(t, dir, 8*room)
	b.drained(target)
	text := strings.Join(wantLines(t, target.File, 1011), "\n")
	for _, id := range idsBut(1010) {
		if n := strings.Count(text, `"`+id+`"`); n != 1 {
			t.Errorf("%s is there %d times", id, n)
		}
	}
	if code, text := b.ready(); code != http.StatusOK {
		t.Errorf("readiness answers %d afterwards: %s", code, text)
	}
}

func TestALineFeedInAnEventDoesNotBreakTheLine(t *testing.T) {
	got := string(appendLines(nil, []Group{{Entries: []Entry{{Line: "{\n \"a\":1}"}}}}))
	if got != "{  \"a\":1}\n" {
		t.Errorf("%q", got)
	}
}
