package eventlog

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestAskReachesTheHandlerOfThatHost(t *testing.T) {
	l := connect(t, startServer(t).Options())
	ctx := testContext(t)
	for _, host := range []string{"a", "a.b", "*"} {
		stop, err := l.Handle(host, "status", func(_ context.Context, request []byte) ([]byte, error) {
			return fmt.Appendf(nil, "%s at %s", request, host), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
	}
	for _, host := range []string{"a", "a.b", "*"} {
		got, err := l.Ask(ctx, host, "status", []byte("how"))
		if want := "how at " + host; err != nil || string(got) != want {
			t.Errorf("ask %s: %q, %v; want %q", host, got, err, want)
		}
	}
	for _, host := range []string{"b", ">", ""} {
		if _, err := l.Ask(ctx, host, "status", nil); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("ask %q: %v, want ErrNoAnswer", host, err)
		}
	}
}

func TestAHandlersErrorArrives(t *testing.T) {
	l := connect(t, startServer(t).Options())
	for name, sent := range map[string]error{
		"missing": fmt.Errorf("workload shop/web: %w", ErrNotFound),
		"stale":   fmt.Errorf("proposal 7: %w", ErrStale),
		"other":   errors.New("two\nlines"),
	} {
		stop, err := l.Handle("h", name, func(context.Context, []byte) ([]byte, error) { return nil, sent })
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		_, err = l.Ask(testContext(t), "h", name, nil)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		for _, kind := range []error{ErrNotFound, ErrStale, ErrNoAnswer} {
			if errors.Is(err, kind) != errors.Is(sent, kind) {
				t.Errorf("%s: %v is %v: %v", name, err, kind, errors.Is(err, kind))
			}
		}
	}
}
