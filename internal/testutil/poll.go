package testutil

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// pollEvery is the pause between two looks.
const pollEvery = 10 * time.Millisecond

// Poll calls look until it returns nil, ctx ends or the deadline passes, and
// then returns look's last error.
func Poll(ctx context.Context, deadline time.Duration, look func() error) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	for {
		err := look()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(pollEvery):
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
