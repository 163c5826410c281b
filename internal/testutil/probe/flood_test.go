package probe

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

func TestFloodTalliesEachSend(t *testing.T) {
	var out, errs bytes.Buffer
	for args, want := range map[string]int{
		"flood -to 127.16.0.0/16 -count 300 -rounds 2": 600,
		"flood -to ::1/128 -rounds 3":                  3,
	} {
		out.Reset()
		if code := Main(strings.Fields(args), &out, &errs); code != 0 {
			t.Fatalf("%s: %s", args, &errs)
		}
		all, err := ParseTallies(&out)
		if err != nil || len(all) != 1 || all[0].Attempts != want || all[0].OK != want {
			t.Errorf("%s: %+v, %v", args, all, err)
		}
	}
}

func TestFloodEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if tally, err := Flood(ctx, FloodOptions{}); err != nil || tally.Attempts != 0 {
		t.Errorf("%+v, %v", tally, err)
	}
}
