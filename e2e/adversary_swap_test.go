package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	daemon "github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/policy"
)

// nobody is where no technique goes.
var nobody = netip.MustParseAddr("203.0.113.99")

// swap changes the policy in a rule that is nobody's, and again as soon as the
// kernel has that, until it is told to stop.
func (c *crew) swap() (stop func()) {
	c.t.Helper()
	log := c.enforcer.events(c.t)
	ctx, cancel := context.WithCancel(c.t.Context())
	swaps, ended := 0, make(chan error, 1)
	go func() {
		for {
			if err := c.swapTo(ctx, log, uint16(1+swaps%60000)); err != nil {
				ended <- err
				return
			}
			swaps++
		}
	}()
	return func() {
		c.t.Helper()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) || swaps == 0 {
			c.t.Errorf("after %d swaps of the policy: %v", swaps, err)
		}
		c.t.Logf("the policy was swapped %d times", swaps)
	}
}

// swapTo allows nobody's port, and returns when the kernel allows it.
func (c *crew) swapTo(ctx context.Context, log *eventlog.Log, port uint16) error {
	if err := c.put(adversaryPolicy, adversaryRules+fmt.Sprintf("%s tcp/%d\n", nobody, port)); err != nil {
		return err
	}
	ask, err := json.Marshal(daemon.ExplainRequest{Workload: adversaryPolicy, Dst: nobody, Proto: policy.ProtoTCP, Port: port})
	if err != nil {
		return err
	}
	return testutil.Poll(ctx, testutil.Long, func() error {
		var x daemon.Explanation
		text, err := log.Ask(ctx, host, daemon.AskExplain, ask)
		if err == nil {
			err = json.Unmarshal(text, &x)
		}
		if err == nil && (x.Judged != "kernel" || x.Verdict != policy.VerdictAllow.String()) {
			err = fmt.Errorf("port %d is not allowed yet: %+v", port, x)
		}
		return err
	})
}
