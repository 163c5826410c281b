package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/schemas"
)

// sink remembers what one consumer was given.
type sink struct {
	mu    sync.Mutex
	seen  []uint64
	most  int
	block chan struct{} // closed: rounds pass
}

func openSink() *sink {
	s := &sink{block: make(chan struct{})}
	close(s.block)
	return s
}

func (s *sink) deliver(ctx context.Context, round []Message) error {
	s.mu.Lock()
	block := s.block
	s.mu.Unlock()
	select {
	case <-block:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = max(s.most, len(round))
	for _, m := range round {
		s.seen = append(s.seen, m.Sequence)
	}
	return nil
}

func (s *sink) sequences() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// publishHosts appends events numbered from first to before last.
func publishHosts(t testing.TB, l *Log, first, last int) {
	t.Helper()
	for n := first; n < last; n++ {
		e := &schemas.HostEvent{TimeNs: int64(n + 1), Host: testHost, Kind: "test", Message: fmt.Sprint(n)}
		if err := l.PublishHost(testContext(t), e); err != nil {
			t.Fatal(err)
		}
	}
}

func testConsumer(l *Log) *Consumer {
	return l.Consumer(ConsumerOptions{Stream: schemas.StreamHosts, Name: "test", PinTTL: time.Second, AckWait: 2 * time.Second})
}

// consume reads until the test or the returned function ends it.
func consume(t testing.TB, c *Consumer, deliver func(context.Context, []Message) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var g errgroup.Group
	g.Go(func() error { return c.Run(ctx, deliver) })
	stop = sync.OnceFunc(func() {
		cancel()
		if err := g.Wait(); !errors.Is(err, context.Canceled) && !errors.Is(err, ErrClosed) {
			t.Errorf("run ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// wantHeld waits until so many messages are handed out.
func wantHeld(t testing.TB, c *Consumer, n int) {
	t.Helper()
	testutil.Eventually(t, "messages out", func() error {
		if got := ackPending(t, c); got != n {
			return fmt.Errorf("%d of %d", got, n)
		}
		return nil
	})
}

// wantDrained waits until n messages were delivered and none is pending. The
// server counts one that it is about to hand out nowhere for a moment.
func wantDrained(t testing.TB, c *Consumer, n int, sinks ...*sink) {
	t.Helper()
	var last ConsumerStatus
	testutil.Eventually(t, "nothing pending", func() (err error) {
		got := 0
		for _, s := range sinks {
			got += len(s.sequences())
		}
		if last, err = c.Status(testContext(t)); err == nil && (got < n || last.Pending != 0) {
			err = fmt.Errorf("%d of %d messages are delivered, %d are pending", got, n, last.Pending)
		}
		return err
	})
	if !last.Oldest.IsZero() {
		t.Errorf("nothing is pending, yet the oldest is of %v", last.Oldest)
	}
}

func wantSequences(t testing.TB, got []uint64, last int) {
	t.Helper()
	if len(got) != last {
		t.Fatalf("got %d messages, want %d: %v", len(got), last, got)
	}
	for i, seq := range got {
		if seq != uint64(i+1) {
			t.Fatalf("message %d has sequence %d", i, seq)
		}
	}
}

func TestConsumerGivesEachMessageOnceAndInOrder(t *testing.T) {
	l := connect(t, startServer(t).Options())
	publishHosts(t, l, 0, 3*heldMessages)
	c, s := testConsumer(l), openSink()
	if _, err := c.Status(testContext(t)); !errors.Is(err, ErrNotFound) {
		t.Errorf("status before the first run: %v", err)
	}
	consume(t, c, s.deliver)
	publishHosts(t, l, 3*heldMessages, 4*heldMessages)
	wantDrained(t, c, 4*heldMessages, s)
	wantSequences(t, s.sequences(), 4*heldMessages)
}

func TestConsumerGoesOnBehindWhatWasDelivered(t *testing.T) {
	l := connect(t, startServer(t).Options())
	publishHosts(t, l, 0, 10)
	c, s := testConsumer(l), openSink()
	stop := consume(t, c, s.deliver)
	wantDrained(t, c, 10, s)
	stop()
	publishHosts(t, l, 10, 20)
	testutil.Eventually(t, "10 pending", func() error {
		status, err := c.Status(testContext(t))
		if err == nil && (status.Pending != 10 || status.Oldest.IsZero()) {
			err = fmt.Errorf("pending are %+v", status)
		}
		return err
	})
	consume(t, testConsumer(l), s.deliver)
	wantDrained(t, c, 20, s)
	wantSequences(t, s.sequences(), 20)
}

func TestConsumerHoldsABoundedNumberForAsLongAsItTakes(t *testing.T) {
	l := connect(t, startServer(t).Options())
	publishHosts(t, l, 0, 3*heldMessages)
	c, s := testConsumer(l), &sink{block: make(chan struct{})}
	consume(t, c, s.deliver)
	// Longer than the pin and the wait for an acknowledgement last.
	wantHeld(t, c, heldMessages)
	<-time.After(5 * time.Second)
	if n := ackPending(t, c); n != heldMessages {
		t.Errorf("%d messages are out, want %d", n, heldMessages)
	}
	close(s.block)
	wantDrained(t, c, 3*heldMessages, s)
	wantSequences(t, s.sequences(), 3*heldMessages)
}

func ackPending(t testing.TB, c *Consumer) int {
	t.Helper()
	consumer, err := c.l.js.Consumer(testContext(t), c.o.Stream, c.o.Name)
	if err != nil {
		return -1
	}
	return consumer.CachedInfo().NumAckPending
}

func TestOneOfTwoConsumersOwnsAndTheOtherTakesOver(t *testing.T) {
	for name, kill := range map[string]bool{"killed": true, "stopped": false} {
		t.Run(name, func(t *testing.T) {
			server := startServer(t)
			l1, l2 := connect(t, server.Options()), connect(t, server.Options())
			publishHosts(t, l1, 0, 10)
			first, second := openSink(), openSink()
			c := testConsumer(l1)
			stop := consume(t, c, first.deliver)
			wantDrained(t, c, 10, first)
			consume(t, testConsumer(l2), second.deliver)
			publishHosts(t, l2, 10, 20)
			wantDrained(t, c, 20, first, second)
			wantSequences(t, first.sequences(), 20)
			if got := second.sequences(); len(got) != 0 {
				t.Errorf("the second got %v beside an owner", got)
			}
			// The first dies with messages in its hands.
			first.mu.Lock()
			first.block = make(chan struct{})
			first.mu.Unlock()
			publishHosts(t, l2, 20, 30)
			wantHeld(t, testConsumer(l2), 10)
			if kill {
				l1.nc.Close()
			} else {
				stop()
			}
			publishHosts(t, l2, 30, 40)
			wantDrained(t, testConsumer(l2), 40, first, second)
			wantSequences(t, append(first.sequences(), second.sequences()...), 40)
		})
	}
}

func TestConsumerOutlivesTheServer(t *testing.T) {
	o := newOutside(t)
	server := o.start(t)
	l := connect(t, o.options())
	c, s := testConsumer(l), openSink()
	sent := 0
	consume(t, c, s.deliver)
	for range 3 {
		publishHosts(t, l, sent, sent+20)
		sent += 20
		wantDrained(t, c, sent, s)
		server.kill()
		server = o.start(t)
	}
	publishHosts(t, l, sent, sent+20)
	wantDrained(t, c, sent+20, s)
	got := s.sequences()
	slices.Sort(got)
	wantSequences(t, slices.Compact(got), sent+20)
}

func TestConsumerGivesTheCallersErrorBack(t *testing.T) {
	l := connect(t, startServer(t).Options())
	publishHosts(t, l, 0, 1)
	want := errors.New("no")
	err := testConsumer(l).Run(testContext(t), func(context.Context, []Message) error { return want })
	if !errors.Is(err, want) {
		t.Errorf("run ended with %v, want %v", err, want)
	}
}

func TestConsumerSinceLeavesOutWhatWasThereBefore(t *testing.T) {
	l := connect(t, startServer(t).Options())
	publishHosts(t, l, 0, 5)
	var at time.Time
	for e, err := range l.DeadLetters(testContext(t), Query[DeadEntry]{}) {
		t.Fatal(e, err)
	}
	status, err := l.js.Stream(testContext(t), schemas.StreamHosts)
	if err != nil {
		t.Fatal(err)
	}
	at = status.CachedInfo().State.LastTime.Add(1)
	publishHosts(t, l, 5, 8)
	s := openSink()
	c := l.Consumer(ConsumerOptions{Stream: schemas.StreamHosts, Name: "late", Since: at})
	consume(t, c, s.deliver)
	wantDrained(t, c, 3, s)
	if got := s.sequences(); !slices.Equal(got, []uint64{6, 7, 8}) {
		t.Errorf("got %v, want 6 to 8", got)
	}
}
