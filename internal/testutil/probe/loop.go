package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// Target is what a loop dials.
type Target struct {
	How string
	To  netip.AddrPort
}

// Tally is what a loop saw of one target.
type Tally struct {
	How      string `json:"how"`
	To       string `json:"to"`
	Attempts int    `json:"attempts"`
	OK       int    `json:"ok"`
	Denied   int    `json:"denied"`
	// Failed is neither; Errors are the texts, with counts.
	Failed int            `json:"failed"`
	Errors map[string]int `json:"errors,omitempty"`
}

func (t *Tally) add(r Result) {
	t.Attempts++
	switch {
	case r.OK:
		t.OK++
	case r.Denied():
		t.Denied++
	default:
		t.Failed++
	}
	if !r.OK {
		t.Errors[r.Step+": "+r.Error]++
	}
}

// Loop dials the targets in turn, pausing between rounds, until ctx ends or
// the number of rounds, if it is not 0, is made; at least one is.
func Loop(ctx context.Context, targets []Target, rounds int, pause, timeout time.Duration) []Tally {
	all := make([]Tally, len(targets))
	for i, t := range targets {
		all[i] = Tally{How: t.How, To: t.To.String(), Errors: map[string]int{}}
	}
	for n := 0; n == 0 || ctx.Err() == nil && (rounds == 0 || n < rounds); n++ {
		for i, t := range targets {
			all[i].add(Dial(t.How, t.To, timeout))
		}
		if pause > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
	return all
}

// ParseTallies reads the lines that loop writes.
func ParseTallies(r io.Reader) ([]Tally, error) {
	var all []Tally
	for d := json.NewDecoder(r); ; {
		var one Tally
		switch err := d.Decode(&one); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return all, fmt.Errorf("parse probe output: %w", err)
		}
		all = append(all, one)
	}
}
