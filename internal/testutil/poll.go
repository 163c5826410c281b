package testutil

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// The pause between two looks grows, so that what takes long is not slowed
// down by being looked at.
const (
	pollFirst = 5 * time.Millisecond
	pollMost  = 200 * time.Millisecond
)

// Poll calls look until it returns nil, ctx ends or the deadline passes, and
// then returns look's last error.
func Poll(ctx context.Context, deadline time.Duration, look func() error) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	for pause := pollFirst; ; pause = min(pause*3/2, pollMost) {
		err := look()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(pause):
		}
	}
}

// Eventually fails the test when look still returns an error after Long.
func Eventually(t testing.TB, what string, look func() error) {
	t.Helper()
	if err := Poll(t.Context(), Long, look); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
