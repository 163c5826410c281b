package eventlog

import (
	"errors"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil"
)

func TestTheRoomOfTheFlowStream(t *testing.T) {
	s := startServer(t, func(o *ServerOptions) { o.MaxFlowBytes = 1 << 20 })
	l := connect(t, s.Options())
	if err := l.Connected(); err != nil {
		t.Error(err)
	}
	if r, err := l.Room(testutil.Long); err != nil || r != (Room{MaxBytes: 1 << 20}) {
		t.Errorf("empty: %+v, %v", r, err)
	}
	w := l.FlowWriter(testHost, testBoot)
	write(t, w, 0, 99, 100)
	flush(t, w)
	w.Close()
	r, err := l.Room(testutil.Long)
	if err != nil || r.Messages == 0 || r.Bytes == 0 || r.Bytes >= r.MaxBytes {
		t.Errorf("with flows: %+v, %v", r, err)
	}
}

func TestALostConnectionIsTold(t *testing.T) {
	o := newOutside(t)
	server := o.start(t)
	l := connect(t, o.options())
	server.kill()
	testutil.Eventually(t, "the loss is told", func() error {
		if l.Connected() == nil {
			return errors.New("it is still connected")
		}
		return nil
	})
	if _, err := l.Room(testutil.Long); err == nil || !strings.Contains(err.Error(), "not connected") {
		t.Errorf("the room without a server: %v", err)
	}
}
