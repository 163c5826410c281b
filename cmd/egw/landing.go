package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/operator"
)

// landing is what a change did to connections that stood before, on the hosts
// whose enforcers answer.
type landing struct {
	Hosts int `json:"hosts"`
	Cut   int `json:"cut"`
	Kept  int `json:"kept"`
	// Late are the hosts where the change is not in force yet.
	Late []string `json:"late,omitempty"`
}

// landing waits until a change is in force everywhere and asks what it did; nil
// where nobody can tell. A host without an enforcer is egw status's to tell.
func (a *app) landing(ctx context.Context, d *operator.Desk, done operator.Done) *landing {
	if len(done.Changes) == 0 {
		return nil
	}
	names, err := d.Log().Hosts(ctx)
	if err != nil {
		return nil
	}
	var mu sync.Mutex
	var on landing
	var g errgroup.Group
	g.SetLimit(asksAtOnce)
	for _, host := range names {
		g.Go(func() error {
			did, err := applied(ctx, d.Log(), host, done.Revision)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				on.Hosts, on.Cut, on.Kept = on.Hosts+1, on.Cut+did.Cut, on.Kept+did.Kept
			case !errors.Is(err, eventlog.ErrNoAnswer) || errors.Is(err, context.DeadlineExceeded):
				on.Late = append(on.Late, host)
			}
			return nil
		})
	}
	_ = g.Wait() // no error is returned
	slices.Sort(on.Late)
	if on.Hosts+len(on.Late) == 0 {
		return nil
	}
	return &on
}

// askAgain is when a host that is silent is asked again: the enforcer that was
// asked may be gone, and another one in its place.
const askAgain = time.Second

// applied waits until a revision is in force on a host.
func applied(ctx context.Context, l *eventlog.Log, host string, revision uint64) (did enforcer.Applied, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	for {
		err = askFor(ctx, askAgain, l, host, enforcer.AskApplied, enforcer.AppliedRequest{Revision: revision}, &did)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return did, err
		}
	}
}

// text says what is worth saying.
func (l *landing) text(b *strings.Builder) {
	if l == nil {
		return
	}
	if l.Cut > 0 {
		fmt.Fprintf(b, "%s cut that the policy refuses now\n", plural(l.Cut, "connection"))
	}
	if l.Kept > 0 {
		fmt.Fprintf(b, "%s kept that the policy refuses now\n", plural(l.Kept, "connection"))
	}
	if len(l.Late) > 0 {
		fmt.Fprintf(b, "not in force yet on %s\n", printable(someOf(l.Late)))
	}
}
