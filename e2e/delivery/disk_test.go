package delivery

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/loki"
)

// TestWhatLokiLostOnAFullDiskIsDeliveredAgain holds docs/OPERATIONS.md to its
// word. Loki answers 204 with a full disk, and has lost that when it crashes:
// no sender can tell. The events are in NATS, and a target of a new name gets
// them again.
func TestWhatLokiLostOnAFullDiskIsDeliveredAgain(t *testing.T) {
	testutil.Privileged(t) // to mount
	const small, enough, n = 24 << 20, 512 << 20, 20_000
	disk := t.TempDir()
	testutil.SmallDisk(t, disk, small)
	p := newPipeline(t, loki.Options{Dir: disk})
	l := p.events(t)
	fill(t, disk)
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Long)
	defer cancel()
	for h := range hosts {
		if err := record(ctx, l, h, n, began); err != nil {
			t.Fatal(err)
		}
	}
	p.drained(t, l, target)
	if !strings.Contains(p.loki.Log(), "disk full") {
		t.Error("the disk was not full")
	}
	if err := p.loki.Kill(); err != nil {
		t.Fatal(err)
	}
	testutil.ResizeDisk(t, disk, enough)
	launch(t, p.loki)
	before := p.ids(t, began)
	p.collector(t, "again", "since_hours: 1")
	p.drained(t, l, "again")
	if after := p.ids(t, began); after != n {
		t.Errorf("Loki has %d of %d events", after, n)
	}
	t.Logf("of %d acknowledged events Loki had %d after the crash", n, before)
}

// ids counts the events in Loki.
func (p *pipeline) ids(t *testing.T, began time.Time) int {
	t.Helper()
	entries, err := p.loki.Lines(t.Context(), `{service_name="egresswarden"}`, began.Add(-time.Minute), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, e := range entries {
		ids[e.Metadata["event_id"]] = true
	}
	return len(ids)
}

// fill takes all the room there is.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, zeros{}); err == nil {
		t.Fatal("the disk has no end")
	}
}

type zeros struct{}

// Read gives zeros without end.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
