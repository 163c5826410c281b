package main

import "strings"

// The kinds of turns beside those by loopback: what a socket costs that does
// nothing, and what is sent over a link.
const (
	socketUDP, socketTCP            = "socket/udp", "socket/tcp"
	linkSendto, linkUDP, linkStream = "link/sendto", "link/udp", "link/stream"
)

const (
	// small is the size of a datagram over a link.
	small = 64
	// chunk is the size of a write to a stream.
	chunk = 16 << 10
	// longer is how many times as long as others a stream's turn is: it has no
	// batches of its own.
	longer = 8
)

// kind is one thing that is measured.
type kind struct {
	turn
	name string
	next uint64
}

func allKinds() []*kind {
	ks := []*kind{
		{name: "connect/known", turn: turn{Kind: "connect"}},
		{name: "connect/new", turn: turn{Kind: "connect", New: true}, next: 1 << 32},
		{name: "udp/known", turn: turn{Kind: "udp"}},
		{name: "udp/new", turn: turn{Kind: "udp", New: true}, next: 2 << 32},
		{name: "send", turn: turn{Kind: "send"}},
		{name: "bulk", turn: turn{Kind: "bulk"}},
	}
	for _, name := range []string{socketUDP, socketTCP, linkSendto, linkUDP, linkStream} {
		ks = append(ks, &kind{name: name, turn: turn{Kind: name}})
	}
	return ks
}

// at is the kind's next turn.
func (k *kind) at(batches int) turn {
	t := k.turn
	t.First, t.Batches = k.next, batches
	if t.Kind == linkStream {
		t.Batches *= longer
	}
	return t
}

// linked tells that a turn goes over a link.
func (t turn) linked() bool { return strings.HasPrefix(t.Kind, "link/") }

// count is how often a turn does what it does.
func (t turn) count() int { return t.Batches * batch }

// decisions are those that the gate has to count for a turn, which is the worker's
// first or a later one: sends on a connection are not decided, the connection
// itself is.
func (t turn) decisions(first bool) uint64 {
	switch t.Kind {
	case "connect", "udp", linkSendto:
		return uint64(t.count())
	case "send", linkUDP, linkStream:
		if first {
			return 1
		}
	}
	return 0
}
