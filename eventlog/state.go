package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/egresswarden/egresswarden/schemas"
)

// Connected tells why there is no connection at the moment, nil if there is
// one.
func (l *Log) Connected() error {
	if l.nc.IsConnected() {
		return nil
	}
	return errors.Join(errors.New("not connected to nats"), l.nc.LastError())
}

// Room is how full EGW_FLOWS is.
type Room struct {
	Messages uint64
	// Bytes are in use, of MaxBytes; -1 is no bound.
	Bytes, MaxBytes int64
}

// Room asks the server once, and waits so long for the answer.
func (l *Log) Room(wait time.Duration) (Room, error) {
	ctx, cancel := context.WithTimeout(l.ctx, wait)
	defer cancel()
	if err := l.Connected(); err != nil {
		return Room{}, fmt.Errorf("room of %s: %w", schemas.StreamFlows, err)
	}
	s, err := l.js.Stream(ctx, schemas.StreamFlows)
	if err != nil {
		return Room{}, fmt.Errorf("room of %s: %w", schemas.StreamFlows, err)
	}
	i := s.CachedInfo()
	return Room{Messages: i.State.Msgs, Bytes: int64(i.State.Bytes), MaxBytes: i.Config.MaxBytes}, nil
}
