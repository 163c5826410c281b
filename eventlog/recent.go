package eventlog

// recentMost bounds what is remembered: many times what can be on its way.
const recentMost = 64 * 1024

// recent remembers the sequences that were delivered last. That a sequence is
// lower than another one's says nothing: after a restart the server may hand
// out anew what somebody else held, long after what follows it.
type recent struct {
	known map[uint64]struct{}
	order []uint64
}

func (r *recent) add(sequence uint64) {
	if r.known == nil {
		r.known = map[uint64]struct{}{}
	}
	if r.has(sequence) {
		return
	}
	if len(r.order) == recentMost {
		delete(r.known, r.order[0])
		r.order = r.order[1:]
	}
	r.known[sequence] = struct{}{}
	r.order = append(r.order, sequence)
}

func (r *recent) has(sequence uint64) bool {
	_, ok := r.known[sequence]
	return ok
}
