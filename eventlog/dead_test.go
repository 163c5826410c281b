package eventlog

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/egresswarden/egresswarden/schemas"
)

func TestOneDeadLetterIsFoundByItsID(t *testing.T) {
	s := startServer(t)
	o := s.Options()
	o.ReadOnly = true
	bare := connect(t, o)
	if _, err := bare.DeadLetter(testContext(t), 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("without a stream: %v", err)
	}
	l := connect(t, s.Options())
	if err := l.nc.PublishMsg(&nats.Msg{Subject: schemas.DeadSubject("x"), Data: []byte("junk")}); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		d := DeadLetter{Consumer: "x", Stream: schemas.StreamFlows, Sequence: uint64(n), Reason: "refused", Time: time.Now()}
		if err := l.PublishDead(testContext(t), d); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := l.DeadLetter(testContext(t), 3); err != nil || d.ID != 3 || d.Letter.Sequence != 1 {
		t.Errorf("letter 3 is %+v, %v", d, err)
	}
	for id, want := range map[uint64]error{0: ErrNotFound, 1: ErrMessage, 5: ErrNotFound} {
		if _, err := l.DeadLetter(testContext(t), id); !errors.Is(err, want) {
			t.Errorf("letter %d: %v, want %v", id, err, want)
		}
	}
}
