package eventlog

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// term is the time from subscribing to losing the pin, the consumer or the
// connection's patience. One goroutine receives, another delivers.
type term struct {
	c   *Consumer
	sub *nats.Subscription
	// came has what sub gets, all of it: the library's NextMsg keeps messages for
	// itself that look like the server's "no responders".
	came  chan *nats.Msg
	inbox string
	pull  pull
	asked time.Time // the server, by settle
	// waiting: what somebody held who is gone has yet to come back; standby:
	// somebody else is the owner.
	waiting, standby bool

	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change of what follows
	held    []Message     // the first `flying` are being delivered; those and the rest by sequence
	bytes   int
	flying  int
	pin     string
	settled bool // held is all that the server waits for
	since   time.Time
	done    recent // delivered and acknowledged
}

// term reads until something is wrong. It tells whether a round was delivered.
func (c *Consumer) term(ctx context.Context, deliver func(context.Context, []Message) error) (progress bool, err error) {
	if err := c.ensure(ctx); err != nil {
		return false, err
	}
	t := &term{c: c, inbox: c.l.nc.NewInbox(), changed: make(chan struct{}), came: make(chan *nats.Msg)}
	ended := make(chan struct{})
	defer close(ended)
	t.sub, err = c.l.nc.Subscribe(t.inbox+".*", func(m *nats.Msg) {
		select {
		case t.came <- m:
		case <-ended:
		}
	})
	if err != nil {
		return false, err
	}
	defer func() {
		var d deliverError
		t.release(ctx, ctx.Err() != nil || errors.As(err, &d))
	}()
	if err := t.sub.SetPendingLimits(-1, -1); err != nil { // the requests bound it
		return false, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return t.receive(gctx) })
	g.Go(func() error { return t.deliver(gctx, deliver) })
	err = g.Wait()
	return len(t.done.order) > 0, err
}

// receive keeps messages coming while there is room, and the server informed.
func (t *term) receive(ctx context.Context) error {
	tick := min(200*time.Millisecond, t.c.o.PinTTL/8, t.c.o.AckWait/8)
	extended := time.Now()
	for ctx.Err() == nil {
		if err := t.request(); err != nil {
			return err
		}
		select {
		case m := <-t.came:
			if err := t.take(m); err != nil {
				return err
			}
		case <-time.After(tick):
			if !t.sub.IsValid() {
				return nats.ErrBadSubscription
			}
		case <-ctx.Done():
		}
		if time.Since(extended) > t.c.o.AckWait/3 {
			extended = time.Now()
			t.extend()
		}
		t.settle(ctx)
	}
	return ctx.Err()
}

// take looks at what came from the server.
func (t *term) take(m *nats.Msg) error {
	// A message of the stream may have such a header too, but asks to be acknowledged.
	if status := m.Header.Get("Status"); status != "" && len(m.Data) == 0 && !strings.HasPrefix(m.Reply, ackSubject) {
		return t.status(m, status)
	}
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	t.pull.got(m.Subject)
	if !t.waiting {
		t.c.trouble.over(false)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if pin := m.Header.Get("Nats-Pin-Id"); pin != t.pin {
		t.pin, t.settled = pin, false
	}
	if t.done.has(meta.Sequence.Stream) {
		_ = t.c.l.nc.Publish(m.Reply, ackWord) // it crossed with its acknowledgement
		return nil
	}
	t.hold(Message{
		Stream: t.c.o.Stream, Sequence: meta.Sequence.Stream, Time: meta.Timestamp, Delivered: meta.NumDelivered,
		Data: m.Data, reply: m.Reply, size: len(m.Data),
	})
	return nil
}

// ackSubject begins where a message of a stream is acknowledged.
const ackSubject = "$JS.ACK."

// place is where a sequence is, or belongs.
func place(sorted []Message, sequence uint64) (int, bool) {
	return slices.BinarySearchFunc(sorted, sequence, func(m Message, s uint64) int { return cmp.Compare(m.Sequence, s) })
}

// hold puts a message into its place; with t.mu.
func (t *term) hold(m Message) {
	if i, found := place(t.held[:t.flying], m.Sequence); found {
		t.held[i].reply = m.reply
		return
	}
	i, found := place(t.held[t.flying:], m.Sequence)
	i += t.flying
	if found {
		t.held[i].reply = m.reply
		return
	}
	if len(t.held) == t.flying {
		t.since = time.Now()
	}
	t.held = slices.Insert(t.held, i, m)
	t.bytes += m.size
	t.tell()
}

// settle asks whether somebody else still holds messages that come before
// ours. They come back to us once their time is over.
func (t *term) settle(ctx context.Context) {
	t.mu.Lock()
	need, pace := !t.settled, settleEvery
	if len(t.held) == 0 {
		pace = lookEvery
	}
	t.mu.Unlock()
	if more, _, err := t.sub.Pending(); !need || more > 0 || err != nil || time.Since(t.asked) < pace || !t.c.l.nc.IsConnected() {
		return
	}
	t.asked = time.Now()
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	consumer, err := t.c.l.js.Consumer(ctx, t.c.o.Stream, t.c.o.Name)
	if err != nil {
		t.c.log.Debug("what others hold is not known", "err", err)
		return
	}
	info := consumer.CachedInfo()
	t.mu.Lock()
	defer t.mu.Unlock()
	out := info.NumAckPending - len(t.held)
	owner := owner(info)
	standby := owner != "" && owner != t.pin
	was := t.waiting
	t.waiting = out > 0 && !standby
	switch {
	case t.waiting:
		t.c.trouble.failed(waitingError{out, t.c.o.AckWait})
	case was:
		t.c.trouble.over(false)
	}
	if out <= 0 && len(t.held) > 0 {
		t.settled = true
		t.tell()
	}
	if standby && !t.standby {
		t.c.log.Info("somebody else reads the stream, standing by")
	}
	t.standby = standby
}

// owner is the pin of who owns the consumer; empty is nobody.
func owner(info *jetstream.ConsumerInfo) string {
	for _, g := range info.PriorityGroups {
		if g.Group == priorityGroup {
			return g.PinnedClientID
		}
	}
	return ""
}

// deliver hands out round after round.
func (t *term) deliver(ctx context.Context, deliver func(context.Context, []Message) error) error {
	for {
		round, err := t.next(ctx)
		if err != nil {
			return err
		}
		if err := deliver(ctx, round); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return deliverError{err}
		}
		if err := t.confirm(ctx, round); err != nil {
			return err
		}
		t.finish(len(round))
	}
}

// next waits for a round. It waits a little longer for more, so that a trickle
// does not become a request each.
func (t *term) next(ctx context.Context) ([]Message, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		var ripe <-chan time.Time
		if t.settled && len(t.held) > 0 {
			wait := linger - time.Since(t.since)
			if wait <= 0 || t.full() {
				return t.cut(), nil
			}
			ripe = time.After(wait)
		}
		changed := t.changed
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ripe:
		case <-ctx.Done():
		}
		t.mu.Lock()
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// cut makes the round: bounded in bytes, and in time, because a sink that has
// the round already must still take it once more after a crash (Loki refuses
// what is an hour behind). With t.mu.
func (t *term) cut() []Message {
	n, size := 0, 0
	for _, m := range t.held {
		if n > 0 && (size+m.size > roundBytes || m.Time.Sub(t.held[0].Time) > roundSpan) {
			break
		}
		n, size = n+1, size+m.size
	}
	t.flying = n
	return slices.Clone(t.held[:n])
}

func (t *term) finish(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.held[:n] {
		t.bytes -= m.size
		t.done.add(m.Sequence)
	}
	t.held = slices.Delete(t.held, 0, n)
	t.flying, t.since = 0, time.Time{} // what came meanwhile has waited enough
	t.tell()
}

// full tells whether no more is asked for; with t.mu.
func (t *term) full() bool { return len(t.held) >= heldMessages || t.bytes >= heldBytes }

// tell wakes whoever waits for a change; with t.mu.
func (t *term) tell() {
	close(t.changed)
	t.changed = make(chan struct{})
}
