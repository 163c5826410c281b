package eventlog

import (
	"context"
	"fmt"
)

// The words of JetStream's acknowledgements.
var (
	ackWord      = []byte("+ACK")
	nakWord      = []byte("-NAK")
	progressWord = []byte("+WPI")
)

// confirmTries bounds how often an acknowledgement is repeated to a server that
// is there and does not answer it: then it has forgotten the message, and hands
// it out again.
const confirmTries = 10

// confirm acknowledges a round and returns when the server has said so. Acks of
// one connection are handled in order, so the answer to the last one stands for
// all, unless the connection has changed in between.
func (t *term) confirm(ctx context.Context, round []Message) error {
	nc, wait := t.c.l.nc, retryMin
	for try := 0; ; {
		before := nc.Stats().Reconnects
		for _, m := range round[:len(round)-1] {
			if err := nc.Publish(m.reply, ackWord); err != nil {
				break // the last one fails as well
			}
		}
		request, cancel := context.WithTimeout(ctx, publishWait)
		_, err := nc.RequestWithContext(request, round[len(round)-1].reply, ackWord)
		cancel()
		if err == nil && nc.Stats().Reconnects == before {
			t.c.trouble.over(true)
			return nil
		}
		if err != nil && nc.IsConnected() {
			err = fmt.Errorf("%w: %w", errUnconfirmed, err)
			t.c.trouble.failed(err)
			if try++; try >= confirmTries {
				return err
			}
		}
		if err := pause(ctx, &wait); err != nil {
			return err
		}
	}
}

// extend tells the server that what is held is being worked on.
func (t *term) extend() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.held {
		if t.c.l.nc.Publish(m.reply, progressWord) != nil {
			return
		}
	}
}

// release gives back what is held, in order, and at the end of the reading also
// the pin, so that nobody waits for us. The subscription goes first, or it would
// all come back to it.
func (t *term) release(ctx context.Context, end bool) {
	_ = t.sub.Unsubscribe()
	t.mu.Lock()
	defer t.mu.Unlock()
	nc := t.c.l.nc
	if !nc.IsConnected() || t.pin == "" {
		return
	}
	if end {
		t.unpin(context.WithoutCancel(ctx))
	}
	for _, m := range t.held {
		_ = nc.Publish(m.reply, nakWord)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishWait)
	defer cancel()
	_ = nc.FlushWithContext(ctx)
}

// unpin lets another client become the owner at once, if we still are.
func (t *term) unpin(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	stream, err := t.c.l.js.Stream(ctx, t.c.o.Stream)
	if err != nil {
		return // it ends by itself
	}
	consumer, err := stream.Consumer(ctx, t.c.o.Name)
	if err != nil {
		return
	}
	if owner(consumer.CachedInfo()) == t.pin {
		_ = stream.UnpinConsumer(ctx, t.c.o.Name, priorityGroup)
	}
}
