package bpf

import (
	"fmt"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/policy"
)

func TestKillingTheSweeperAnywhereLosesNothing(t *testing.T) {
	const dests, rounds = 3_000, 10
	kills := scaled(12)
	f := newFixture(t, func(o *Options) { o.RingBytes = 1 << 14; o.FlowEntries = 2048 })
	f.putPolicy(t, 1, table("127.16.0.0/22"), 1)
	f.manage(t, 1, State{Mode: policy.ModeBlock, Slot: 1, HostNetwork: true})
	l := newLedger()
	var sent outcome
	for i := range kills {
		cmd, out := startHelper(t, f.cgroup, "sweep", f.o.PinDir, f.cgroup)
		if got := line(t, out); got != "open" {
			t.Fatalf("helper says %q", got)
		}
		killed := make(chan error)
		go func() {
			// A line that was not written whole was not committed either.
			for n := 0; ; n++ {
				text, err := out.ReadString('\n')
				if err != nil {
					break
				}
				if e, err := parseHelperEvent(text); err != nil {
					t.Errorf("helper says %q: %v", text, err)
				} else {
					l.addOne(e)
				}
				if n == 200*(i+1) {
					_ = cmd.Process.Kill()
				}
			}
			killed <- cmd.Wait()
		}()
		o := flood(t, 2, dests, rounds)
		sent.passed += o.passed
		sent.refused += o.refused
		_ = cmd.Process.Kill() // where the helper was slower than the flood
		if err := <-killed; err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the helper ended by itself: %v", err)
		}
	}
	g := openGate(t, f.o)
	l.settle(t, g)
	c := l.check(t, g, 1)
	if c.Total() != uint64(kills*dests*rounds) || c.Allow != sent.passed || c.Deny != sent.refused {
		t.Errorf("counters %+v, sends %+v", c, sent)
	}
}

func parseHelperEvent(text string) (e Event, err error) {
	var verdict uint8
	_, err = fmt.Sscan(text, &e.Position, &e.Index, &verdict, &e.Count)
	e.Verdict = policy.Verdict(verdict)
	return e, err
}
