package eventlog

import (
	"context"
	"fmt"
	"sync"

	"github.com/egresswarden/egresswarden/schemas"
)

// FlowWriter writes the flows of one host into EGW_FLOWS: each exactly once and
// in the order of the ring, whatever is killed in between, be it the server,
// the connection or this process.
//
// How: one message is on its way at a time, and it carries the sequence that
// the last message of this host must have (Nats-Expected-Last-Subject-Sequence).
// So the server refuses a copy of a message, a message whose predecessor it
// does not have, and one that a killed process left behind on the way. When the
// answer stays away or is a refusal, the writer reads the host's last message:
// its header says up to which position of the ring the stream holds everything,
// and the writer goes on from there. That position is also where a new process
// resumes. While one message is on its way the next grows, from 64 flows to
// 1,024, so that the round trip does not limit the throughput. The Nats-Msg-Id
// (host/boot/start-end) lets the streams of an uplink drop copies.
//
// It needs one living writer per host name. Boot must be new whenever the
// positions of the ring start anew.
type FlowWriter struct {
	l          *Log
	host, boot string
	subject    string

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	pieces  []*piece
	waiting int    // flows in pieces
	held    uint64 // everything before is in pieces or in the stream
	acked   uint64 // everything before is in the stream
	running bool
	closed  bool

	cancel context.CancelFunc
	done   sync.WaitGroup
	sender sender
}

// FlowWriter writes for a host; boot names the life of its ring. Close it in
// the end.
func (l *Log) FlowWriter(host, boot string) *FlowWriter {
	w := &FlowWriter{
		l: l, host: host, boot: boot, subject: schemas.FlowSubject(host),
		changed: make(chan struct{}),
	}
	w.sender = sender{w: w, log: l.log.With("host", host)}
	return w
}

// Resume tells up to which position of the ring the stream holds everything;
// the flows from there on are to be written next. Not ok: it has none of this
// boot. It ends an interrupted removal of old flows first. Call it before the
// first Write.
func (w *FlowWriter) Resume(ctx context.Context) (position uint64, ok bool, err error) {
	wait := retryMin
	for {
		position, ok, err = w.sender.resume(ctx)
		if err == nil {
			break
		}
		if w.l.nc.IsClosed() {
			return 0, false, fmt.Errorf("resume flows of %s: %w", w.host, ErrClosed)
		}
		if pauseErr := pause(ctx, &wait); pauseErr != nil {
			return 0, false, fmt.Errorf("resume flows of %s: %w: last: %w", w.host, pauseErr, err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if ok {
		w.settle(position)
	}
	return position, ok, nil
}

// Write takes flows in the order of the ring; end is the position behind the
// last. It blocks while too much is waiting for the server. When it returns an
// error some flows may have been taken; repeating the call is right, flows that
// are held already are passed over. The flows are not used after the return.
func (w *FlowWriter) Write(ctx context.Context, flows []*schemas.Flow, end uint64) error {
	for first := 0; ; {
		p, next, err := w.encode(flows, first, end)
		if err != nil {
			return err
		}
		if err := w.enqueue(ctx, p); err != nil {
			return fmt.Errorf("write flows of %s: %w", w.host, err)
		}
		if first = next; first == len(flows) {
			return nil
		}
	}
}

// encode makes a piece of the flows from first on. It returns the first flow
// behind it.
func (w *FlowWriter) encode(flows []*schemas.Flow, first int, end uint64) (*piece, int, error) {
	w.mu.Lock()
	held := w.held
	w.mu.Unlock()
	p := newPiece(held)
	last, i := uint64(0), first
	for ; i < len(flows) && !p.full(); i++ {
		position, err := schemas.FlowPosition(flows[i].GetId())
		if err != nil {
			return nil, 0, fmt.Errorf("write flows: %w: %w", ErrOrder, err)
		}
		if position >= end || i > first && position <= last {
			return nil, 0, fmt.Errorf("write flow %s behind %d, end %d: %w", flows[i].GetId(), last, end, ErrOrder)
		}
		last = position
		if position < held {
			continue
		}
		p.add(flows[i], position)
	}
	p.end = end
	if i < len(flows) { // the place of a flow, so that it is one where the ring can be read
		next, err := schemas.FlowPosition(flows[i].GetId())
		if err != nil {
			return nil, 0, fmt.Errorf("write flows: %w: %w", ErrOrder, err)
		}
		p.end = next
	}
	return p, i, nil
}

// enqueue waits for room and hands the piece to the sender.
func (w *FlowWriter) enqueue(ctx context.Context, p *piece) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.until(ctx, func() bool { return w.waiting < windowFlows }); err != nil {
		return err
	}
	if p.end <= w.held {
		return nil
	}
	w.start()
	p.cut(w.held)
	w.held = p.end
	w.pieces = append(w.pieces, p)
	w.waiting += len(p.marks)
	w.tell()
	return nil
}

// start runs the sender once; with w.mu.
func (w *FlowWriter) start() {
	if w.running {
		return
	}
	w.running = true
	ctx, cancel := context.WithCancel(w.l.ctx)
	w.cancel = cancel
	w.done.Go(func() { w.sender.run(ctx) })
}

// Acked is the position up to which the stream holds everything.
func (w *FlowWriter) Acked() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked
}

// Flush waits until the stream holds everything that was written.
func (w *FlowWriter) Flush(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.until(ctx, func() bool { return len(w.pieces) == 0 }); err != nil {
		return fmt.Errorf("flush flows of %s: %w", w.host, err)
	}
	return nil
}

// Close ends the writer without waiting for what has no acknowledgement yet:
// Flush before, or resume later.
func (w *FlowWriter) Close() {
	w.mu.Lock()
	w.closed = true
	cancel := w.cancel
	w.tell()
	w.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	w.done.Wait()
}

// until waits for a condition; with w.mu, which is free while it waits.
func (w *FlowWriter) until(ctx context.Context, ready func() bool) error {
	for !ready() {
		if w.closed || w.l.ctx.Err() != nil {
			return ErrClosed
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		case <-w.l.ctx.Done():
		}
		w.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if w.closed {
		return ErrClosed
	}
	return nil
}

// tell wakes whoever waits for a change; with w.mu.
func (w *FlowWriter) tell() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// settle drops what lies before position, which the stream holds; with w.mu.
func (w *FlowWriter) settle(position uint64) {
	if position <= w.acked {
		return
	}
	w.acked, w.held = position, max(w.held, position)
	n := 0
	for ; n < len(w.pieces) && w.pieces[n].end <= position; n++ {
		w.waiting -= len(w.pieces[n].marks)
		w.pieces[n].free()
		w.pieces[n] = nil
	}
	w.pieces = w.pieces[n:]
	if len(w.pieces) > 0 && w.pieces[0].start < position {
		before := len(w.pieces[0].marks)
		w.pieces[0].cut(position)
		w.waiting -= before - len(w.pieces[0].marks)
	}
	w.tell()
}
