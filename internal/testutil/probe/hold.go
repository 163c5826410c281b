package probe

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// holding keeps a connection in use until it fails. It calls up once there was
// an answer.
type holding func(s *socket, up func()) error

var holdings = map[string]struct {
	kind int
	hold holding
}{
	"tcp_idle":        {unix.SOCK_STREAM, holdIdle},
	"tcp_stream":      {unix.SOCK_STREAM, holdStream},
	"udp_connected":   {unix.SOCK_DGRAM, holdConnected},
	"udp_unconnected": {unix.SOCK_DGRAM, holdUnconnected},
}

const (
	// holdPause is between two messages of a held connection, and between two
	// attempts to make one.
	holdPause = 5 * time.Millisecond
	// holdTimeout ends a wait for an answer: a datagram may be lost.
	holdTimeout = 200 * time.Millisecond
)

// hold keeps one connection of each target, and makes it again when it ends,
// until ctx ends. It writes a result when one stands, and when it has failed
// one with StartNs as the time of that. An attempt that fails is none.
func hold(ctx context.Context, targets []Target, out *json.Encoder) {
	var mu sync.Mutex
	write := func(r Result) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(r)
	}
	for _, t := range targets {
		go func() {
			for ctx.Err() == nil {
				holdOne(t, write)
				time.Sleep(holdPause)
			}
		}()
	}
	<-ctx.Done()
}

func holdOne(t Target, write func(Result)) {
	h, stood := holdings[t.How], false
	tell := func(err error) {
		r := Result{How: t.How, To: t.To.String(), StartNs: Monotonic()}
		r.fill(err)
		write(r)
	}
	err := withSocket(t.To, h.kind, 0, holdTimeout, func(s *socket) error {
		return h.hold(s, func() {
			stood = true
			tell(nil)
		})
	})
	if stood {
		tell(err)
	}
}

// holdIdle waits for a word of the peer, as a client between two requests.
func holdIdle(s *socket, up func()) error {
	if err := s.connect(); err != nil {
		return err
	}
	if err := s.echoStream(true); err != nil {
		return err
	}
	up()
	for buf := make([]byte, 64); ; {
		n, err := s.read(buf)
		if err == nil && n == 0 {
			return step("recv", io.EOF)
		}
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
}

// holdStream moves data all the time.
func holdStream(s *socket, up func()) error {
	if err := s.connect(); err != nil {
		return err
	}
	if err := s.echoStream(true); err != nil {
		return err
	}
	up()
	sent, buf := 0, make([]byte, 8<<10)
	for {
		n, err := unix.SendmsgN(s.fd, buf, nil, nil, unix.MSG_NOSIGNAL)
		if err = step("send", err); err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return err
		}
		for sent += max(n, 0); sent > 0; sent -= n {
			n, err = s.read(buf)
			if err == nil && n == 0 {
				return step("recv", io.EOF)
			}
			if err != nil && !errors.Is(err, unix.EAGAIN) {
				return err
			}
			n = max(n, 0)
		}
		time.Sleep(holdPause)
	}
}

// holdConnected asks and listens from a connected socket.
func holdConnected(s *socket, up func()) error {
	if err := s.connect(); err != nil {
		return err
	}
	return s.holdPackets(up, func() error {
		_, err := unix.Write(s.fd, message)
		return err
	})
}

// holdUnconnected names the destination with every datagram.
func holdUnconnected(s *socket, up func()) error {
	return s.holdPackets(up, func() error { return unix.Sendto(s.fd, message, 0, s.addr) })
}

func (s *socket) holdPackets(up func(), send func() error) error {
	for stands := false; ; {
		if err := step("send", send()); err != nil {
			return err
		}
		err := s.echoPacket()
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		if err == nil && !stands {
			stands = true
			up()
		}
		time.Sleep(holdPause)
	}
}
