package delivery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// outages is how many each victim has.
const outages = 3

// longest is how long one may take.
func longest(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("EGW_OUTAGE")
	if text == "" {
		return 2 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("EGW_OUTAGE: %v", err)
	}
	return d
}

// havoc kills and halts every victim, each at random and without regard to the
// others. All of them run when it returns.
func havoc(t *testing.T, seed uint64, victims map[string]victim) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	most := longest(t)
	for name, v := range victims {
		r := rand.New(rand.NewPCG(seed, hash(name)))
		g.Go(func() error {
			for i := range outages {
				pause(ctx, r, most/2)
				// One of each kind at least.
				kill := i == 0 || i > 1 && r.IntN(2) == 0
				began := time.Now()
				if err := outage(ctx, r, v, kill, most); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				t.Logf("%s was %s for %.1f s", name, map[bool]string{true: "killed", false: "halted"}[kill], time.Since(began).Seconds())
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func hash(name string) (h uint64) {
	for _, c := range []byte(name) {
		h = h*31 + uint64(c)
	}
	return h
}

// outage is one.
func outage(ctx context.Context, r *rand.Rand, v victim, kill bool, most time.Duration) error {
	off, on := v.Pause, v.Resume
	if kill {
		off, on = v.Kill, func() error { return v.Launch(ctx) }
	}
	if err := off(); err != nil {
		return err
	}
	pause(ctx, r, most)
	return on()
}

// pause waits at random; what is waited for is chance alone.
func pause(ctx context.Context, r *rand.Rand, most time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(r.Int64N(int64(most)))):
	}
}
