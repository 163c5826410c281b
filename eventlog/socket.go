package eventlog

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// socket lets clients on a unix socket reach a server that has no port.
type socket struct {
	path     string
	listener *net.UnixListener
	server   InProcess
	log      *slog.Logger
	lock     *os.File

	mu    sync.Mutex
	conns map[net.Conn]bool
	tasks sync.WaitGroup
}

// listenSocket takes the path over from a server that died; from a living one
// it does not (ErrBusy).
func listenSocket(path string, s InProcess, log *slog.Logger) (*socket, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), lock.Close())
	}
	listener, err := listenPrivate(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), lock.Close())
	}
	return &socket{path: path, listener: listener, server: s, log: log, lock: lock, conns: map[net.Conn]bool{}}, nil
}

// listenPrivate binds under another name and moves the socket into place once
// its mode is right, so that nobody gets in before.
func listenPrivate(path string) (*net.UnixListener, error) {
	aside := path + ".new"
	if err := os.Remove(aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: aside, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(aside, 0o600), os.Rename(aside, path)); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// serve passes connections on until close.
func (s *socket) serve() error {
	for {
		outside, err := s.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			s.tasks.Wait()
			return nil
		}
		if err != nil {
			s.log.Warn("nats socket does not accept", "err", err)
			continue
		}
		s.connect(outside)
	}
}

func (s *socket) connect(outside net.Conn) {
	inside, err := s.server.InProcessConn()
	if err != nil || !s.keep(outside, inside) {
		s.drop(outside, inside)
		return
	}
	s.tasks.Go(func() { s.pipe(outside, inside) })
	s.tasks.Go(func() { s.pipe(inside, outside) })
}

// pipe copies one way; its end is the end of the connection.
func (s *socket) pipe(to, from net.Conn) {
	_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 64<<10))
	s.drop(to, from)
}

func (s *socket) keep(conns ...net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return false
	}
	for _, c := range conns {
		s.conns[c] = true
	}
	return true
}

func (s *socket) drop(conns ...net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range conns {
		if c != nil {
			_ = c.Close()
			delete(s.conns, c)
		}
	}
}

// close ends the connections and removes the socket.
func (s *socket) close() error {
	err := s.listener.Close()
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for c := range conns {
		_ = c.Close()
	}
	return errors.Join(err, os.Remove(s.path), s.lock.Close())
}

// lockFile holds a file for this process; the kernel lets go of it when the
// process dies.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, ErrBusy), f.Close())
	}
	return f, nil
}
