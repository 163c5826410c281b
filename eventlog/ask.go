package eventlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/egresswarden/egresswarden/schemas"
)

const (
	headerError = "Egw-Error"
	headerKind  = "Egw-Error-Kind"
	kindMissing = "not_found"
)

// Handler answers a question. An error that is ErrNotFound or ErrStale is that
// for the asker too; of any other the text arrives.
type Handler func(ctx context.Context, request []byte) ([]byte, error)

// Handle answers the named question for a host, one asker after the other,
// until stop is called or the log closed; the handler's context ends with the
// log. Each name has its own line: a slow answer delays no other question.
func (l *Log) Handle(host, name string, fn Handler) (stop func() error, err error) {
	return l.handle(schemas.AskSubject(host, name), fn)
}

func (l *Log) handle(subject string, fn Handler) (func() error, error) {
	sub, err := l.nc.Subscribe(subject, func(m *nats.Msg) {
		if err := m.RespondMsg(answer(fn(l.ctx, m.Data))); err != nil {
			l.log.Warn("answer not sent", "subject", subject, "err", err)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("handle %s: %w", subject, err)
	}
	if err := l.nc.FlushTimeout(requestWait); err != nil {
		return nil, fmt.Errorf("handle %s: %w", subject, errors.Join(err, sub.Unsubscribe()))
	}
	return sub.Unsubscribe, nil
}

func answer(data []byte, err error) *nats.Msg {
	m := &nats.Msg{Data: data, Header: nats.Header{}}
	if err == nil {
		return m
	}
	m.Header.Set(headerError, oneLine(err.Error()))
	switch {
	case errors.Is(err, ErrNotFound):
		m.Header.Set(headerKind, kindMissing)
	case errors.Is(err, ErrStale):
		m.Header.Set(headerKind, "stale")
	}
	return m
}

// Ask puts a question to a host's enforcer. ErrNoAnswer says that nobody
// listens there.
func (l *Log) Ask(ctx context.Context, host, name string, request []byte) ([]byte, error) {
	reply, err := l.nc.RequestWithContext(ctx, schemas.AskSubject(host, name), request)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, fmt.Errorf("ask %s for %s: %w", host, name, ErrNoAnswer)
	}
	if err == nil {
		err = answerError(reply)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s for %s: %w", host, name, err)
	}
	return reply.Data, nil
}

// answerError gives the handler's error as the asker sees it.
func answerError(m *nats.Msg) error {
	text := m.Header.Get(headerError)
	if text == "" {
		return nil
	}
	switch m.Header.Get(headerKind) {
	case kindMissing:
		return &askedError{text, ErrNotFound}
	case "stale":
		return &askedError{text, ErrStale}
	}
	return errors.New(text)
}

// askedError is a sentinel that crossed the wire with its text.
type askedError struct {
	text string
	kind error
}

func (e *askedError) Error() string { return e.text }
func (e *askedError) Unwrap() error { return e.kind }

// oneLine keeps an error's text inside one header.
func oneLine(text string) string {
	b := []byte(text)
	for i, c := range b {
		if c < ' ' {
			b[i] = ' '
		}
	}
	return string(b)
}
