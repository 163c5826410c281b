package eventlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

var (
	errPinLost  = errors.New("another client has become the owner")
	errConsumer = errors.New("consumer is gone")
)

// pull is the request for messages that is open at the server.
type pull struct {
	number  int
	left    int       // messages it may still bring; 0: it is closed
	until   time.Time // when the server forgets it
	asked   time.Time // when the last one was sent
	big     bool      // the next message is larger than there was room for
	resting time.Time // no new one before
}

// got counts a message of the open request.
func (p *pull) got(subject string) {
	p.big = false
	if p.left > 0 && p.open(subject) {
		p.left--
	}
}

func (p *pull) open(subject string) bool {
	return subject[strings.LastIndexByte(subject, '.')+1:] == strconv.Itoa(p.number)
}

// pullRequest is the request as the server reads it.
type pullRequest struct {
	Batch    int           `json:"batch"`
	MaxBytes int           `json:"max_bytes,omitempty"`
	Expires  time.Duration `json:"expires"`
	Group    string        `json:"group"`
	ID       string        `json:"id,omitempty"`
}

// request keeps one request open while there is room. Without room it asks, now
// and then, for a message of one byte, which no message is: that renews the pin
// and brings nothing.
func (t *term) request() error {
	now := time.Now()
	p := &t.pull
	if p.left > 0 && now.Before(p.until) || now.Before(p.resting) || !t.c.l.nc.IsConnected() {
		return nil
	}
	t.mu.Lock()
	r := pullRequest{
		Batch: heldMessages - len(t.held), MaxBytes: heldBytes - t.bytes,
		Expires: min(5*time.Second, t.c.o.PinTTL/3), Group: priorityGroup, ID: t.pin,
	}
	full, empty := t.full(), len(t.held) == 0
	t.mu.Unlock()
	switch {
	case p.big && empty:
		r.Batch, r.MaxBytes = 1, 0
	case full || p.big:
		if now.Sub(p.asked) < t.c.o.PinTTL/4 {
			return nil
		}
		r.Batch, r.MaxBytes = 1, 1
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if p.left > 0 { // the server has let the last one's time pass
		t.c.trouble.failed(errSilent)
	}
	p.number, p.left, p.asked, p.until = p.number+1, r.Batch, now, now.Add(r.Expires+time.Second)
	subject := "$JS.API.CONSUMER.MSG.NEXT." + t.c.o.Stream + "." + t.c.o.Name
	err = t.c.l.nc.PublishRequest(subject, t.inbox+"."+strconv.Itoa(p.number), text)
	if err != nil { // the connection is being made again
		p.left, p.resting = 0, now.Add(retryMin)
	}
	return nil
}

// status handles an answer without a message. The numbers are the server's.
func (t *term) status(m *nats.Msg, status string) error {
	text := m.Header.Get("Description")
	p := &t.pull
	current := p.open(m.Subject)
	switch status {
	case "423":
		if t.pinned() != "" {
			return errPinLost
		}
	case "503":
		return errConsumer
	case "409":
		if strings.Contains(text, "Deleted") || strings.Contains(text, "push based") {
			return fmt.Errorf("%w: %s", errConsumer, text)
		}
		if strings.Contains(text, "MaxBytes") {
			p.big = p.big || current && !t.isFull()
		} else if current {
			p.resting = time.Now().Add(5 * retryMin)
		}
	case "404", "408":
	default:
		return nil // 100: the server is alive
	}
	if !t.waiting {
		t.c.trouble.over(false)
	}
	if current {
		p.left = 0
	}
	return nil
}

func (t *term) pinned() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pin
}

func (t *term) isFull() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.full()
}
