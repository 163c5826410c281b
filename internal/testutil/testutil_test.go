package testutil

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"
)

func TestPoll(t *testing.T) {
	t.Run("returns at the first success", func(t *testing.T) {
		looks := 0
		err := Poll(t.Context(), Long, func() error {
			if looks++; looks < 3 {
				return errors.New("not yet")
			}
			return nil
		})
		if err != nil || looks != 3 {
			t.Fatalf("err %v after %d looks, want nil after 3", err, looks)
		}
	})
	t.Run("looks once even when the time is up", func(t *testing.T) {
		if err := Poll(t.Context(), 0, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("gives the last error at the deadline", func(t *testing.T) {
		want := errors.New("never")
		err := Poll(t.Context(), time.Millisecond, func() error { return want })
		if !errors.Is(err, want) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("err %v, want both %v and the deadline", err, want)
		}
	})
	t.Run("ends with the context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := Poll(ctx, Long, func() error { return errors.New("x") })
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("err %v, want cancellation", err)
		}
	})
}

// recorder notes whether a test would have been skipped or failed.
type recorder struct {
	testing.TB
	skipped, failed bool
}

func (r *recorder) Helper() {}

func (r *recorder) Skip(...any) {
	r.skipped = true
	runtime.Goexit()
}

func (r *recorder) Fatalf(string, ...any) {
	r.failed = true
	runtime.Goexit()
}

func TestPrivileged(t *testing.T) {
	for _, tc := range []struct {
		name, ci        string
		skipped, failed bool
	}{
		{name: "skips without the variable", skipped: true},
		{name: "fails without the variable in CI", ci: "1", failed: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("EGW_PRIVILEGED", "")
			t.Setenv("CI", tc.ci)
			r, done := &recorder{}, make(chan struct{})
			go func() {
				defer close(done)
				Privileged(r)
			}()
			<-done
			if r.skipped != tc.skipped || r.failed != tc.failed {
				t.Fatalf("skipped %v, failed %v", r.skipped, r.failed)
			}
		})
	}
}
