package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/adversary"
)

// TestNoFrameFromTheFirstInstruction starts containers whose first process writes a
// frame by a packet socket as its first act. On kernels that refuse such sockets the
// wall on the link is the second to do so.
func TestNoFrameFromTheFirstInstruction(t *testing.T) {
	const starts = adversary.MostRuns - 1
	f := newFixture(t)
	f.write(adversaryPolicy, adversaryRules)
	f.enforcer.start(t)
	c := newCrew(f)
	f.ready(f.stay("first", "block"))
	n := slices.IndexFunc(adversary.All(), func(w adversary.Technique) bool { return w.Name == "packet arp" })
	start := func(mode string, i int) *hostile {
		h := &hostile{name: fmt.Sprint(mode, i), mode: mode, verb: "one", args: []string{strconv.Itoa(n)}, caps: []string{"NET_RAW"}}
		c.start(h)
		h.c.Wait(t)
		return h
	}
	learns := start("learn", 0)
	testutil.Eventually(t, "the frame arrives while learning", func() error {
		if c.wire.count(learns.run, n) == 0 {
			return fmt.Errorf("not seen: %s", learns.c.Logs(t))
		}
		return nil
	})
	for i := range starts {
		h := start("block", i)
		c.tap.Sync(t)
		if got := c.wire.count(h.run, n); got != 0 {
			t.Errorf("start %d: the frame arrives (%d): %s", i, got, h.c.Logs(t))
		}
	}
}
