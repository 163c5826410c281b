package eventlog

import (
	"sync"

	"github.com/egresswarden/egresswarden/schemas"
)

// Sizes of what is written. A piece is what Write puts together and a message
// holds at least when that much is waiting; a message takes several while the
// server is slower than the flows come.
const (
	pieceFlows   = 64
	pieceBytes   = 32 << 10
	messageFlows = 1024
	messageBytes = 256 << 10
	windowFlows  = 32 << 10
)

// tally counts decisions by verdict.
type tally struct{ allow, deny, wouldDeny, other uint64 }

func (t *tally) add(f *schemas.Flow) {
	switch f.GetVerdict() {
	case schemas.Verdict_VERDICT_ALLOW:
		t.allow += f.GetCount()
	case schemas.Verdict_VERDICT_DENY:
		t.deny += f.GetCount()
	case schemas.Verdict_VERDICT_WOULD_DENY:
		t.wouldDeny += f.GetCount()
	default:
		t.other += f.GetCount()
	}
}

func (t *tally) join(o tally) {
	t.allow += o.allow
	t.deny += o.deny
	t.wouldDeny += o.wouldDeny
	t.other += o.other
}

func (t tally) total() uint64 { return t.allow + t.deny + t.wouldDeny + t.other }

// piece is a run of flows, encoded as a FlowBatch, from the ring's position
// start up to end. Without flows it only moves the position.
type piece struct {
	start, end uint64
	data       []byte
	marks      []mark
}

// mark is where a flow begins, in the ring and in the data, and what it counts.
type mark struct {
	position uint64
	offset   int
	tally    tally
}

var spare = sync.Pool{New: func() any {
	return &piece{data: make([]byte, 0, pieceBytes+4<<10), marks: make([]mark, 0, pieceFlows)}
}}

// newPiece gives an empty piece; free takes it back once nobody looks at it.
func newPiece(start uint64) *piece {
	p := spare.Get().(*piece)
	p.start, p.end, p.data, p.marks = start, start, p.data[:0], p.marks[:0]
	return p
}

func (p *piece) free() { spare.Put(p) }

// add appends a flow.
func (p *piece) add(f *schemas.Flow, position uint64) {
	m := mark{position: position, offset: len(p.data)}
	m.tally.add(f)
	p.data, p.marks = schemas.AppendBatched(p.data, f), append(p.marks, m)
}

func (p *piece) full() bool { return len(p.marks) >= pieceFlows || len(p.data) >= pieceBytes }

// cut takes away what lies before a position of the ring.
func (p *piece) cut(position uint64) {
	n := 0
	for n < len(p.marks) && p.marks[n].position < position {
		n++
	}
	if n == len(p.marks) {
		p.data, p.marks = p.data[:0], p.marks[:0]
	} else if n > 0 {
		offset := p.marks[n].offset
		p.data = append(p.data[:0], p.data[offset:]...)
		p.marks = append(p.marks[:0], p.marks[n:]...)
		for i := range p.marks {
			p.marks[i].offset -= offset
		}
	}
	p.start = max(p.start, position)
}

// pack is the content of one message.
type pack struct {
	start, end uint64
	flows      int
	data       []byte
	tally      tally
}

// join makes one pack of the first pieces, as many as fit into limit bytes, and
// of the first in any case. Pieces without flows come along at no cost. The data
// is put into buffer.
func join(pieces []*piece, limit int, buffer []byte) pack {
	k := pack{start: pieces[0].start, data: buffer[:0]}
	for _, p := range pieces {
		if k.flows > 0 && (len(k.data)+len(p.data) > limit || k.flows+len(p.marks) > messageFlows) {
			break
		}
		k.end, k.flows = p.end, k.flows+len(p.marks)
		k.data = append(k.data, p.data...)
		for _, m := range p.marks {
			k.tally.join(m.tally)
		}
	}
	return k
}
