package eventlog

import (
	"fmt"
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
