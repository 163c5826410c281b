package eventlog

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// settledAfter is for how many looks in a row a server that was in trouble must
// be well: after a start it is, until something is written.
const settledAfter = 5

// watch looks at the inner server's health and starts it anew when a stream
// cannot be written any more. On a full disk it waits for room first: a start
// reads the streams, and would be of no use.
func (s *Server) watch() error {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for well := 0; ; {
		select {
		case <-s.stop:
			return nil
		case <-tick.C:
		}
		err := s.health()
		if err == nil {
			if well++; well == settledAfter {
				s.troubled(nil)
			}
			continue
		}
		well = 0
		err = s.cure(err)
		s.troubled(err)
		s.awaitRoom()
		s.stopInner()
		if err := errors.Join(s.claim(), s.startInner()); err != nil {
			s.log.Error("nats server does not start", "dir", s.options.Dir, "err", err)
		}
	}
}

// troubled notes how the server stands, and tells what is news.
func (s *Server) troubled(err error) {
	s.mu.Lock()
	was := s.trouble
	s.trouble = err
	s.mu.Unlock()
	switch {
	case err == nil && was != nil:
		s.log.Info("nats server can write again", "dir", s.options.Dir)
	case err != nil && (was == nil || was.Error() != err.Error()):
		s.log.Error("nats server cannot write and is started anew", "dir", s.options.Dir, "err", err)
		select {
		case s.failed <- err:
		default:
		}
	}
}

// Trouble is why the server could not write a moment ago, nil if it can.
func (s *Server) Trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

func (s *Server) health() error {
	s.mu.Lock()
	inner := s.inner
	s.mu.Unlock()
	if inner == nil {
		return errors.New("not running")
	}
	if !inner.Running() {
		return errors.New("stopped by itself")
	}
	if err := s.intact(inner); err != nil {
		return err
	}
	return agree(looks, func() error {
		status := inner.Healthz(&server.HealthzOptions{})
		if status.Error != "" {
			return fmt.Errorf("unhealthy: %s", status.Error)
		}
		return nil
	})
}

// looks is how many must agree that the NATS server is ill: each gives the answer
// a millisecond, and where processors are busy a server that is well misses it.
const looks = 5

// agree is an error if each of n looks is, the last one.
func agree(n int, look func() error) (err error) {
	for range n {
		if err = look(); err == nil {
			return nil
		}
	}
	return err
}

// claim locks the directory, again where it is another one than before.
func (s *Server) claim() error {
	path := filepath.Join(s.options.Dir, storeLockName)
	if s.lock != nil && sameFile(s.lock, path) {
		return nil
	}
	if err := os.MkdirAll(s.options.Dir, 0o700); err != nil {
		return err
	}
	lock, err := lockFile(path)
	if err != nil {
		return err
	}
	if s.lock != nil {
		_ = s.lock.Close() // of a file that is gone
	}
	s.lock = lock
	return nil
}

func sameFile(f *os.File, path string) bool {
	have, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(path)
	return err == nil && os.SameFile(have, now)
}

// intact is an error when what the NATS server stores in was removed or
// replaced: it goes on writing to files that nobody finds again.
func (s *Server) intact(inner *server.Server) error {
	if !sameFile(s.lock, filepath.Join(s.options.Dir, storeLockName)) {
		return errRemoved
	}
	all, err := inner.Jsz(&server.JSzOptions{Streams: true})
	if err != nil {
		return err
	}
	for _, account := range all.AccountDetails {
		for _, stream := range account.Streams {
			path := filepath.Join(s.options.Dir, "jetstream", account.Name, "streams", stream.Name)
			if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("stream %s: %w", stream.Name, errRemoved)
			}
		}
	}
	return nil
}

var errRemoved = errors.New("what was stored has been removed or replaced while the server runs")

// serverLog passes on what the NATS server logs: its notices are debug talk to
// us.
type serverLog struct{ log *slog.Logger }

func (l serverLog) say(level func(string, ...any), format string, v []any) {
	level("nats server says", "text", fmt.Sprintf(format, v...))
}

// Noticef and the others are the NATS server's Logger.
func (l serverLog) Noticef(format string, v ...any) { l.say(l.log.Debug, format, v) }

// Warnf logs a warning.
func (l serverLog) Warnf(format string, v ...any) { l.say(l.log.Warn, format, v) }

// Fatalf logs an error: the server does not end the process.
func (l serverLog) Fatalf(format string, v ...any) { l.say(l.log.Error, format, v) }

// Errorf logs an error.
func (l serverLog) Errorf(format string, v ...any) { l.say(l.log.Error, format, v) }

// Debugf logs debug talk.
func (l serverLog) Debugf(format string, v ...any) { l.say(l.log.Debug, format, v) }

// Tracef logs debug talk.
func (l serverLog) Tracef(format string, v ...any) { l.say(l.log.Debug, format, v) }
