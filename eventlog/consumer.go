package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Bounds of what a Consumer holds, and its defaults.
const (
	DefaultPinTTL  = 20 * time.Second
	DefaultAckWait = 30 * time.Second

	heldMessages  = 128
	heldBytes     = 16 << 20
	roundBytes    = 4 << 20
	roundSpan     = 30 * time.Minute
	linger        = 50 * time.Millisecond
	settleEvery   = 20 * time.Millisecond
	lookEvery     = 5 * time.Second // with nothing held
	priorityGroup = "owner"
)

// ConsumerOptions name a durable reader of one stream.
type ConsumerOptions struct {
	Stream string
	// Name is the durable consumer's. Any number of Consumers may have one
	// name: they share its place in the stream, and one of them at a time owns
	// it and gets messages.
	Name string
	// Since leaves out what was written earlier; it counts only when the
	// consumer is made. Zero is no bound.
	Since time.Time
	// PinTTL is how long a silent owner stays the owner, AckWait how long
	// what it held waits for it; 0 is the default. They are equal for all of
	// one name.
	PinTTL, AckWait time.Duration
	// Trouble, if set, is told what has kept the reader from reading for a
	// while, also again, and nil when that is over. A connection that is away is
	// none: see Log.Connected. It must not wait.
	Trouble func(error)
}

// Message is a message of a stream.
type Message struct {
	Stream   string
	Sequence uint64
	// Time is when the stream took it.
	Time time.Time
	// Delivered is how often it was handed out, 1 for the first time.
	Delivered uint64
	Data      []byte

	reply string
	size  int
}

// Consumer reads a stream under a durable name: each message is handed out
// until it was delivered, in the order of the stream.
//
// How: the server pins the durable consumer to one client (a priority group
// with the policy pinned_client), so that there is one owner. The owner holds a
// bounded number of messages, tells the server while it is busy with them, and
// renews its pin. When it dies, the pin ends after PinTTL and another client
// gets it; that one waits until what the dead owner held has come back to it
// (AckWait) before it goes on, so that the order stays.
type Consumer struct {
	l       *Log
	o       ConsumerOptions
	log     *slog.Logger
	trouble trouble
}

// Consumer gives a reader; nothing happens before Run.
func (l *Log) Consumer(o ConsumerOptions) *Consumer {
	o.PinTTL = orDefault(o.PinTTL, DefaultPinTTL)
	o.AckWait = orDefault(o.AckWait, DefaultAckWait)
	return &Consumer{l: l, o: o, log: l.log.With("stream", o.Stream, "consumer", o.Name), trouble: trouble{tell: o.Trouble}}
}

// Run hands out rounds of messages, one round at a time, and acknowledges a
// round when deliver returns nil. Deliver may take as long as it needs; its
// context ends when another client has become the owner. Run lasts until the
// context ends, the log is closed, or deliver gives an error while its context
// lives.
func (c *Consumer) Run(ctx context.Context, deliver func(context.Context, []Message) error) error {
	wait, broken := retryMin, false
	for {
		progress, err := c.term(ctx, deliver)
		var d deliverError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &d):
			return d.error
		case c.l.nc.IsClosed():
			return fmt.Errorf("consume %s: %w", c.o.Stream, ErrClosed)
		}
		if progress {
			wait, broken = retryMin, false
		}
		if !broken {
			c.log.Info("reading begins anew", "err", err)
			broken = true
		}
		if !errors.Is(err, errPinLost) {
			c.trouble.failed(err)
		}
		if err := pause(ctx, &wait); err != nil {
			return err
		}
	}
}

// deliverError is an error of the caller's own.
type deliverError struct{ error }

// ensure makes the durable consumer, or brings its times up to date.
func (c *Consumer) ensure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	consumer, err := c.l.js.Consumer(ctx, c.o.Stream, c.o.Name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		_, err = c.l.js.CreateConsumer(ctx, c.o.Stream, c.config())
		return err
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("read stream %s: %w", c.o.Stream, ErrNotFound)
	}
	if err != nil {
		return err
	}
	have, want := consumer.CachedInfo().Config, c.config()
	if have.AckPolicy != want.AckPolicy || have.PriorityPolicy != want.PriorityPolicy {
		return fmt.Errorf("consumer %s of %s belongs to another program: remove it or take another name", c.o.Name, c.o.Stream)
	}
	changed := take(&have.AckWait, want.AckWait)
	changed = take(&have.PinnedTTL, want.PinnedTTL) || changed
	if !changed {
		return nil
	}
	_, err = c.l.js.UpdateConsumer(ctx, c.o.Stream, have)
	return err
}

func (c *Consumer) config() jetstream.ConsumerConfig {
	config := jetstream.ConsumerConfig{
		Durable: c.o.Name, Description: "one owner at a time; acknowledged after delivery",
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: c.o.AckWait, MaxDeliver: -1, MaxAckPending: heldMessages,
		PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{priorityGroup}, PinnedTTL: c.o.PinTTL,
		DeliverPolicy: jetstream.DeliverAllPolicy,
	}
	if !c.o.Since.IsZero() {
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &c.o.Since
	}
	return config
}

// ConsumerStatus is what is yet to be delivered, whoever the owner is.
type ConsumerStatus struct {
	// Pending are messages, handed out or not.
	Pending uint64
	// Oldest is when the stream took the oldest of them; zero with none.
	Oldest time.Time
}

// Status asks the server. A consumer that is not made yet is ErrNotFound.
func (c *Consumer) Status(ctx context.Context) (ConsumerStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	stream, err := c.l.js.Stream(ctx, c.o.Stream)
	if err != nil {
		return ConsumerStatus{}, fmt.Errorf("status of consumer %s: %w", c.o.Name, err)
	}
	consumer, err := stream.Consumer(ctx, c.o.Name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		err = ErrNotFound
	}
	if err != nil {
		return ConsumerStatus{}, fmt.Errorf("status of consumer %s: %w", c.o.Name, err)
	}
	info := consumer.CachedInfo()
	status := ConsumerStatus{Pending: info.NumPending + uint64(max(info.NumAckPending, 0))}
	if status.Pending == 0 {
		return status, nil
	}
	// The next message there is at or behind the floor.
	first := max(info.AckFloor.Stream+1, stream.CachedInfo().State.FirstSeq)
	m, err := stream.GetMsg(ctx, first, jetstream.WithGetMsgSubject(">"))
	if err == nil {
		status.Oldest = m.Time
	} else if !errors.Is(err, jetstream.ErrMsgNotFound) {
		return status, fmt.Errorf("oldest message of consumer %s: %w", c.o.Name, err)
	}
	return status, nil
}
