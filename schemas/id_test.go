package schemas

import (
	"errors"
	"math"
	"testing"
)

func TestFlowIDsCarryThePosition(t *testing.T) {
	for _, position := range []uint64{0, 1, 4096, math.MaxUint64} {
		id := FlowID("web/1", "boot", position)
		if got, err := FlowPosition(id); err != nil || got != position {
			t.Errorf("position of %s is %d, %v", id, got, err)
		}
	}
	for _, id := range []string{"", "h/b/", "h/b/-1", "h/b/x", "h/b/99999999999999999999"} {
		if _, err := FlowPosition(id); !errors.Is(err, ErrID) {
			t.Errorf("position of %q: %v, want ErrID", id, err)
		}
	}
}
