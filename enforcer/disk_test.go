package enforcer

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/internal/telemetry"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/cgroup"
)

// TestAFullDiskNamesItsCureAndLosesNothing floods until the disk of the host's
// own event log is full, makes room, and compares with the kernel's counters.
func TestAFullDiskNamesItsCureAndLosesNothing(t *testing.T) {
	const dests, rounds, small, enough = 50_000, 4, 8 << 20, 512 << 20
	root := cgroup.New(t)
	disk := filepath.Join(t.TempDir(), "nats")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	testutil.SmallDisk(t, disk, small)
	h := startHost(t, root, func(c *Config) {
		c.NATS.URL, c.NATS.Socket = "", filepath.Join(filepath.Dir(disk), "s")
		c.Data = filepath.Dir(disk) // with disk as the folder of its server
	})
	h.url = "unix://" + filepath.Join(filepath.Dir(disk), "s")
	set := telemetry.New()
	h.Instrument(set)
	eventually(t, "the pump runs", func() bool { return h.events.Load() != nil })
	noisy, index := h.container(t, "noisy", "block")
	if err := runFlood(t, noisy, 0, dests, rounds).Wait(); err != nil {
		t.Fatal(err)
	}
	cure := "make room on the file system of " + disk
	testutil.Eventually(t, "the cure is named", func() error {
		if text := strings.Join(h.Status().Problems, "\n"); !strings.Contains(text, cure) {
			return fmt.Errorf("problems are %q", text)
		}
		if code, text := scrape(t, set, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(text, cure) {
			return fmt.Errorf("readiness answers %d %s", code, text)
		}
		return nil
	})
	testutil.ResizeDisk(t, disk, enough)
	if c := h.counters(index); c.Deny < dests*rounds { // the program tries other things as well
		t.Errorf("the kernel counted %+v, want %d denials", c, dests*rounds)
	}
	h.told(t, map[string]Counters{"noisy": h.counters(index)})
	testutil.Eventually(t, "the problem is over", func() error {
		if text := strings.Join(h.Status().Problems, "\n"); strings.Contains(text, cure) {
			return fmt.Errorf("problems are %q", text)
		}
		return nil
	})
}
