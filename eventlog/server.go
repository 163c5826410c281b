package eventlog

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sync/errgroup"
)

const (
	readyTimeout  = time.Minute
	syncInterval  = time.Second
	healthEvery   = time.Second
	maxMemory     = 256 << 20
	maxPayload    = 8 << 20         // an import is one event: some 60,000 rules
	maxPending    = 64 * maxPayload // as many as a reader asks for at once
	maxStore      = 1 << 60         // the streams have their own bounds
	serverName    = "egresswarden"
	storeLockName = "egresswarden.lock"
)

// ServerOptions say how the embedded server runs.
type ServerOptions struct {
	// Dir holds what JetStream stores.
	Dir string
	// Socket, if set, is a unix socket for the tools of this host. Whoever may
	// open the file (mode 0600) may do everything.
	Socket string
	// Listen, if set, is a loopback host:port for plain NATS clients, which
	// need the token; port 0 takes any. Without it no port is opened.
	Listen string
	// TokenFile holds the token; it is made, mode 0600, when missing.
	TokenFile string
	// MaxFlowBytes and MaxFlowAge bound EGW_FLOWS, see Options.
	MaxFlowBytes int64
	MaxFlowAge   time.Duration
	// Log may be nil.
	Log *slog.Logger
}

// Server is a NATS server with JetStream inside this process.
//
// It brings flows to the disk within a second of acknowledging them, and policy
// events before (see AppendPolicy). A NATS server does not write to a stream
// again once a write to it has failed, as it does on a full disk; the Server
// notices and starts it anew until writing works. It does so too when the
// directory is removed: what is stored from then on is in a new one.
type Server struct {
	options ServerOptions
	log     *slog.Logger
	config  *server.Options
	lock    *os.File
	socket  *socket
	failed  chan error
	stop    chan struct{}
	tasks   errgroup.Group

	mu     sync.Mutex
	inner  *server.Server // nil while it is started anew
	syncer *Log
	closed bool
	// trouble is why writing failed, until it has worked for a while.
	trouble error
}

// StartServer starts the embedded server and returns when it is ready. ErrBusy
// says that another process has the directory or the socket.
func StartServer(o ServerOptions) (*Server, error) {
	s := &Server{options: o, log: Options{Log: o.Log}.logger(), failed: make(chan error, 1), stop: make(chan struct{})}
	if err := s.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start nats server in %s: %w", o.Dir, err), s.Close())
	}
	return s, nil
}

func (s *Server) start() (err error) {
	if err := s.claim(); err != nil {
		return err
	}
	if s.config, err = serverConfig(s.options); err != nil {
		return err
	}
	if err := s.startInner(); err != nil {
		return err
	}
	if s.options.Socket != "" {
		if s.socket, err = listenSocket(s.options.Socket, s, s.log); err != nil {
			return err
		}
		s.tasks.Go(s.socket.serve)
	}
	s.tasks.Go(s.watch)
	return nil
}

func serverConfig(o ServerOptions) (*server.Options, error) {
	c := &server.Options{
		ServerName: serverName, DontListen: true, NoSigs: true,
		JetStream: true, StoreDir: o.Dir, SyncInterval: syncInterval,
		JetStreamMaxMemory: maxMemory, JetStreamMaxStore: maxStore, MaxPayload: maxPayload, MaxPending: maxPending,
	}
	if o.Listen == "" {
		return c, nil
	}
	host, port, err := parseListen(o.Listen)
	if err != nil {
		return nil, err
	}
	c.DontListen, c.Host, c.Port = false, host, port
	if port == 0 {
		c.Port = server.RANDOM_PORT
	} else if err := free(o.Listen); err != nil {
		return nil, err
	}
	token, err := loadToken(o.TokenFile)
	c.CustomClientAuthentication = tokenCheck(token)
	return c, err
}

// startInner runs a new NATS server and the answers that belong to it.
func (s *Server) startInner() error {
	inner, err := server.NewServer(s.config.Clone())
	if err != nil {
		return err
	}
	inner.SetLoggerV2(serverLog{s.log}, false, false, false)
	inner.Start()
	if !inner.ReadyForConnections(readyTimeout) {
		inner.Shutdown()
		return errors.New("not ready in time")
	}
	syncer, err := serveSync(inner, s.options.Dir, s.log)
	if err != nil {
		inner.Shutdown()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inner, s.syncer = inner, syncer
	if addr, ok := inner.Addr().(*net.TCPAddr); ok && addr != nil {
		s.config.Port = addr.Port // the same one when started anew
	}
	return nil
}

func (s *Server) stopInner() {
	s.mu.Lock()
	inner, syncer := s.inner, s.syncer
	s.inner, s.syncer = nil, nil
	s.mu.Unlock()
	if syncer != nil {
		syncer.Close()
	}
	if inner != nil {
		inner.Shutdown()
		inner.WaitForShutdown()
	}
}

// InProcessConn gives a connection to the server as it runs now.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	inner := s.inner
	s.mu.Unlock()
	if inner == nil {
		return nil, fmt.Errorf("connect to the embedded server: %w", ErrClosed)
	}
	return inner.InProcessConn()
}

// Options connect to this server from within the process.
func (s *Server) Options() Options {
	return Options{
		InProcess: s, Name: serverName, Log: s.options.Log,
		MaxFlowBytes: s.options.MaxFlowBytes, MaxFlowAge: s.options.MaxFlowAge,
	}
}

// Addr is the address it listens on, nil without Listen.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inner == nil || s.options.Listen == "" {
		return nil
	}
	return s.inner.Addr()
}

// Failed gives each new kind of failed write, or of anything else that made the
// server unable to work, as it is noticed; it is being started anew then. Of
// several errors that nobody fetched the first is kept.
func (s *Server) Failed() <-chan error { return s.failed }

// Close ends the server; what it has acknowledged is on the disk afterwards.
func (s *Server) Close() error {
	s.mu.Lock()
	done := s.closed
	s.closed = true
	s.mu.Unlock()
	if done {
		return nil
	}
	close(s.stop)
	var errs []error
	if s.socket != nil {
		errs = append(errs, s.socket.close())
	}
	errs = append(errs, s.tasks.Wait())
	s.stopInner()
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}
