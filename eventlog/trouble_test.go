package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/schemas"
)

// told is what a Consumer says of its trouble.
type told struct {
	mu   sync.Mutex
	last error
}

func (o *told) trouble(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = err
}

// await waits until the trouble has the text; empty is none.
func (o *told) await(t *testing.T, want string) {
	t.Helper()
	testutil.Eventually(t, "trouble", func() error {
		o.mu.Lock()
		defer o.mu.Unlock()
		if want == "" && o.last != nil || want != "" && (o.last == nil || !strings.Contains(o.last.Error(), want)) {
			return fmt.Errorf("it is %w, want %q", o.last, want)
		}
		return nil
	})
}

// troubled is a consumer of the host events.
func troubled(l *Log, ackWait time.Duration) (*Consumer, *told) {
	o := &told{}
	return l.Consumer(ConsumerOptions{
		Stream: schemas.StreamHosts, Name: "test", PinTTL: time.Second, AckWait: ackWait, Trouble: o.trouble,
	}), o
}

func TestConsumerTellsAStreamThatIsNotThere(t *testing.T) {
	s := startServer(t)
	o := s.Options()
	o.ReadOnly = true
	c, told := troubled(connect(t, o), time.Second)
	got := openSink()
	consume(t, c, got.deliver)
	told.await(t, schemas.StreamHosts+": not found")
	l := connect(t, s.Options())
	told.await(t, "")
	publishHosts(t, l, 0, 3)
	wantDrained(t, c, 3, got)
}

func TestConsumerTellsWhatItWaitsFor(t *testing.T) {
	s := startServer(t)
	l := connect(t, s.Options())
	publishHosts(t, l, 0, 10)
	const ackWait = 20 * time.Second
	c, _ := troubled(l, ackWait)
	stop := consume(t, c, (&sink{block: make(chan struct{})}).deliver)
	wantHeld(t, c, 10)
	// What is given back a server forgets that ends as well.
	stop()
	l.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	l = connect(t, startServer(t, func(o *ServerOptions) { o.Dir = s.options.Dir }).Options())
	c, told := troubled(l, ackWait)
	got := openSink()
	consume(t, c, got.deliver)
	told.await(t, "waits for 10 messages that a reader held who is gone")
	told.await(t, "")
	wantDrained(t, c, 10, got)
}

func TestConsumerTellsAServerThatDoesNotAnswer(t *testing.T) {
	all := &server.Permissions{}
	for name, deny := range map[string]string{
		"requests":         "$JS.API.CONSUMER.MSG.NEXT.>",
		"acknowledgements": ackSubject + ">",
	} {
		t.Run(name, func(t *testing.T) {
			some := &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{">"}, Deny: []string{deny}}}
			url := "nats://" + startForeign(t, &server.Options{Users: []*server.User{
				{Username: "ann", Password: "x", Permissions: all}, {Username: "bob", Password: "x", Permissions: some},
			}}).Addr().String()
			publishHosts(t, connect(t, Options{URL: strings.Replace(url, "//", "//ann:x@", 1)}), 0, 1)
			c, told := troubled(connect(t, Options{URL: strings.Replace(url, "//", "//bob:x@", 1), ReadOnly: true}), time.Second)
			consume(t, c, openSink().deliver)
			told.await(t, "the server does not answer")
		})
	}
}

func TestConsumerGivesThePlaceUpWithItsEnd(t *testing.T) {
	l := connect(t, startServer(t).Options())
	publishHosts(t, l, 0, 1)
	c := l.Consumer(ConsumerOptions{Stream: schemas.StreamHosts, Name: "test"})
	err := c.Run(testContext(t), func(context.Context, []Message) error { return errors.New("no") })
	if err == nil {
		t.Fatal("the error of delivering is gone")
	}
	consumer, err := l.js.Consumer(testContext(t), c.o.Stream, c.o.Name)
	if err != nil {
		t.Fatal(err)
	}
	if pin := owner(consumer.CachedInfo()); pin != "" {
		t.Errorf("%s owns the stream still, and is gone", pin)
	}
}
