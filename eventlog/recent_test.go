package eventlog

import "testing"

func TestOnlyWhatWasDeliveredIsKnown(t *testing.T) {
	var r recent
	for sequence := uint64(100); sequence < 100+2*recentMost; sequence++ {
		r.add(sequence)
		r.add(sequence)
	}
	for sequence, known := range map[uint64]bool{
		99: false, 100: false, 99 + recentMost: false, 100 + recentMost: true, 99 + 2*recentMost: true, 100 + 2*recentMost: false,
	} {
		if r.has(sequence) != known {
			t.Errorf("%d is known: %v", sequence, !known)
		}
	}
	if len(r.known) != recentMost {
		t.Errorf("%d are known, want %d", len(r.known), recentMost)
	}
}
