package eventlog

import (
	"errors"
	"testing"
)

func TestOneBadLookOfSeveralIsNoIllness(t *testing.T) {
	ill := errors.New("ill")
	for name, c := range map[string]struct {
		bad  int
		want error
	}{"well": {0, nil}, "a look was bad": {1, nil}, "all but one were bad": {looks - 1, nil}, "all were bad": {looks, ill}} {
		n := 0
		got := agree(looks, func() error {
			if n++; n <= c.bad {
				return ill
			}
			return nil
		})
		if !errors.Is(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
