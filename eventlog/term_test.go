package eventlog

import (
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/egresswarden/egresswarden/schemas"
)

// TestWhatWasNotDeliveredIsNotAcknowledged hands out a message that another
// owner held, after one that follows it was delivered.
func TestWhatWasNotDeliveredIsNotAcknowledged(t *testing.T) {
	l := connect(t, startServer(t).Options())
	sub, err := l.nc.SubscribeSync(l.nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	acks, err := l.nc.SubscribeSync("$JS.ACK.>")
	if err != nil {
		t.Fatal(err)
	}
	r := &term{c: testConsumer(l), sub: sub, changed: make(chan struct{})}
	r.done.add(3)
	for _, sequence := range []uint64{2, 3} {
		reply := fmt.Sprintf("$JS.ACK.%s.test.2.%d.9.1.0", schemas.StreamHosts, sequence)
		if err := r.take(&nats.Msg{Subject: "egw.hosts.h", Reply: reply, Sub: sub, Data: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.held) != 1 || r.held[0].Sequence != 2 {
		t.Errorf("held are %+v, want what nobody delivered, 2", r.held)
	}
	m, err := acks.NextMsg(testDeadline)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("$JS.ACK.%s.test.2.3.9.1.0", schemas.StreamHosts); m.Subject != want {
		t.Errorf("acknowledged is %s, want what was delivered, %s", m.Subject, want)
	}
	if more, _, _ := acks.Pending(); more != 0 {
		t.Errorf("%d more are acknowledged", more)
	}
}

// TestHeldMessagesAreInOrderAndOnce takes what comes late or again while others
// are being delivered.
func TestHeldMessagesAreInOrderAndOnce(t *testing.T) {
	r := &term{changed: make(chan struct{})}
	hold := func(sequences ...uint64) {
		for _, s := range sequences {
			r.hold(Message{Sequence: s, size: 1})
		}
	}
	hold(11, 10)
	r.settled = true
	r.cut()
	hold(5, 12, 11, 5, 10)
	var got []uint64
	for _, m := range r.held {
		got = append(got, m.Sequence)
	}
	if want := []uint64{10, 11, 5, 12}; !slices.Equal(got, want) {
		t.Errorf("held are %v, want %v", got, want)
	}
	r.finish(2)
	if r.bytes != 2 || !r.done.has(10) || !r.done.has(11) || r.done.has(5) {
		t.Errorf("%d bytes are held, done are %v", r.bytes, r.done.order)
	}
}

// TestAMessageThatLooksLikeAStatusIsDelivered publishes what anybody may.
func TestAMessageThatLooksLikeAStatusIsDelivered(t *testing.T) {
	l := connect(t, startServer(t).Options())
	publishHosts(t, l, 0, 1)
	for _, status := range []string{"503", "404"} {
		m := &nats.Msg{Subject: schemas.HostSubject(testHost), Header: nats.Header{"Status": {status}}}
		if _, err := l.js.PublishMsg(testContext(t), m); err != nil {
			t.Fatal(err)
		}
	}
	publishHosts(t, l, 1, 3)
	c, s := testConsumer(l), openSink()
	consume(t, c, s.deliver)
	wantDrained(t, c, 5, s)
	wantSequences(t, s.sequences(), 5)
}
