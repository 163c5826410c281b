package eventlog

import (
	"errors"
	"testing"
)

func TestFlowEntriesGoOnFromTheirPlace(t *testing.T) {
	s := startServer(t)
	l := connect(t, s.Options())
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	write(t, w, 0, 200, 20)
	if err := w.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
	read := func(from uint64) (ids []string, last uint64) {
		for e, err := range l.FlowEntries(testContext(t), from, false) {
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range e.Flows {
				ids = append(ids, f.GetId())
			}
			last = e.Sequence
		}
		return ids, last
	}
	all, last := read(0)
	if len(all) != 200 || all[0] != flow(0).Id || all[199] != flow(199).Id {
		t.Fatalf("%d flows", len(all))
	}
	if rest, _ := read(last + 1); len(rest) != 0 {
		t.Errorf("%d flows behind the last", len(rest))
	}
	for _, err := range l.FlowEntries(testContext(t), last+2, true) {
		if !errors.Is(err, ErrStale) {
			t.Errorf("from beyond the end: %v, want ErrStale", err)
		}
	}
}
