package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// requestWait bounds a request, so that no client holds a connection.
	requestWait = 30 * time.Second
	// endWait is what a request on its way has at the end.
	endWait = 2 * time.Second
)

// Server serves a set at an address.
type Server struct {
	set      *Set
	log      *slog.Logger
	listener net.Listener // nil: nowhere
}

// Listen opens the address. One that was given and is not to be had is an
// error; a default that is taken is told loudly, and the process goes on without
// metrics. Run the server, or Close it.
func (s *Set) Listen(a Address, log *slog.Logger) (*Server, error) {
	server := &Server{set: s, log: log}
	if a.Text == "" {
		return server, nil
	}
	var err error
	server.listener, err = a.listen()
	if err == nil {
		log.Info("metrics are served", "url", "http://"+server.Addr()+"/metrics")
		return server, nil
	}
	if a.Given {
		return nil, err
	}
	log.Warn("there are no metrics: the default address is not to be had, name another", "address", a.Text, "err", err)
	return server, nil
}

// Addr is where the server listens, empty for nowhere.
func (s *Server) Addr() string {
	if s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if s.listener == nil {
		<-ctx.Done()
		return nil
	}
	h := &http.Server{
		Handler: s.set.Handler(), ReadTimeout: requestWait, WriteTimeout: requestWait, IdleTimeout: 4 * requestWait,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn), MaxHeaderBytes: 16 << 10,
	}
	var g errgroup.Group
	g.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.Background(), endWait)
		defer cancel()
		if err := h.Shutdown(end); err != nil {
			return h.Close()
		}
		return nil
	})
	// Without a listener that works the process goes on: Serve fails on its
	// closing alone.
	if err := h.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		s.log.Error("metrics are no longer served", "err", err)
	}
	return g.Wait()
}

// Beside serves as long as work lasts, and returns its error.
func (s *Server) Beside(ctx context.Context, work func(context.Context) error) error {
	var g errgroup.Group
	ctx, end := context.WithCancel(ctx)
	g.Go(func() error { return s.Run(ctx) })
	g.Go(func() error {
		defer end()
		return work(ctx)
	})
	return g.Wait()
}

// Close gives the address up; Run does so itself.
func (s *Server) Close() error {
	if s.listener == nil {
		return nil
	}
	return s.listener.Close()
}
