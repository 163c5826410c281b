package bpf

import (
	"fmt"
	"sync/atomic"
)

// Names are the questions to Docker's resolver, by which data can leave while
// they are allowed.
type Names struct {
	// Questions are messages; Octets is all that they carry.
	Questions, Octets uint64
	// Longest is the longest name in octets, of those since the last look.
	Longest uint64
}

// Names returns what the index ever asked, and takes the longest name away.
func (g *Gate) Names(index uint32) (Names, error) {
	if err := g.checkIndex(index); err != nil {
		return Names{}, fmt.Errorf("names: %w", err)
	}
	n := &g.shared.names[index]
	return Names{
		Questions: atomic.LoadUint64(&n.Questions), Octets: atomic.LoadUint64(&n.Octets),
		Longest: atomic.SwapUint64(&n.Longest, 0),
	}, nil
}
