package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	neturl "net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Log is a connection to the event log. Its methods may be used from several
// goroutines.
type Log struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	log    *slog.Logger
	ctx    context.Context // ends with Close; for handlers and writers
	cancel context.CancelFunc
	// options are what streams are made with.
	options Options
}

const (
	connectTimeout = 10 * time.Second
	reconnectWait  = 250 * time.Millisecond
)

// Connect speaks to a server, refuses an old one with ErrVersion, and makes
// the streams that are missing, as far as the options say. Once it has
// succeeded, a lost connection is made again for ever, and the streams with it.
func Connect(ctx context.Context, o Options) (*Log, error) {
	log := o.logger()
	options, url, err := natsOptions(o, log)
	if err != nil {
		return nil, fmt.Errorf("connect to nats at %s: %w", describe(o), err)
	}
	nc, err := nats.Connect(url, options...)
	if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) {
		err = fmt.Errorf("%w: %w", ErrAccess, err)
	}
	if odd := (*neturl.Error)(nil); errors.As(err, &odd) {
		err = odd.Err // without the address, see describe
	}
	if err != nil {
		return nil, fmt.Errorf("connect to nats at %s: %w", describe(o), err)
	}
	l, err := newLog(nc, o, log)
	if err == nil {
		err = l.MakeStreams(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to nats at %s: %w", describe(o), err)
	}
	return l, nil
}

// connectedAgain sees to the streams: the server may have lost its store.
func (l *Log) connectedAgain(*nats.Conn) {
	l.log.Info("event log connected again")
	ctx, cancel := context.WithTimeout(l.ctx, connectTimeout)
	defer cancel()
	if err := l.MakeStreams(ctx); err != nil {
		l.log.Warn("streams not looked after", "err", err)
	}
}

// newLog takes over a connection, which may be lost and made again from now on.
func newLog(nc *nats.Conn, o Options, log *slog.Logger) (*Log, error) {
	if err := checkVersion(nc.ConnectedServerVersion()); err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	l := &Log{nc: nc, js: js, log: log, options: o}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	nc.SetReconnectHandler(l.connectedAgain)
	return l, nil
}

// Close ends the connection; handlers and writers that live on it end too. A
// writer's flows that have no acknowledgement yet are not waited for.
func (l *Log) Close() {
	l.cancel()
	l.nc.Close()
}

// describe names the server without the user, password or token that its
// address may hold.
func describe(o Options) string {
	if o.InProcess != nil {
		return "the embedded server"
	}
	servers := strings.Split(o.URL, ",")
	for i, one := range servers {
		if at := strings.LastIndexByte(one, '@'); at >= 0 && !strings.HasPrefix(one, "unix://") {
			servers[i] = one[at+1:]
		}
	}
	return strings.Join(servers, ",")
}

func natsOptions(o Options, log *slog.Logger) ([]nats.Option, string, error) {
	options := []nats.Option{
		nats.Name(o.Name), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectWait),
		nats.Timeout(connectTimeout), nats.ReconnectBufSize(-1), nats.IgnoreAuthErrorAbort(),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("event log disconnected", "err", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("event log reports an error", "err", err)
		}),
	}
	url := o.URL
	if o.InProcess == nil {
		if err := CheckAddress(url); err != nil {
			return nil, "", err
		}
	}
	path, isSocket := strings.CutPrefix(url, "unix://")
	switch {
	case o.InProcess != nil:
		options, url = append(options, nats.InProcessServer(o.InProcess)), nats.DefaultURL
	case isSocket:
		options, url = append(options, nats.SetCustomDialer(socketDialer(path))), nats.DefaultURL
	}
	options = append(options, credentials(o)...)
	return options, url, nil
}

func credentials(o Options) []nats.Option {
	var options []nats.Option
	if o.Token != "" {
		options = append(options, nats.Token(o.Token))
	}
	if o.TokenFile != "" {
		options = append(options, nats.TokenHandler(func() string {
			text, _ := os.ReadFile(o.TokenFile) // no token: the server refuses, and is tried again
			return strings.TrimSpace(string(text))
		}))
	}
	if o.CredsFile != "" {
		options = append(options, nats.UserCredentials(o.CredsFile))
	}
	if o.CAFile != "" {
		options = append(options, nats.RootCAs(o.CAFile))
	}
	if o.CertFile != "" || o.KeyFile != "" {
		options = append(options, nats.ClientCert(o.CertFile, o.KeyFile))
	}
	return options
}

// socketDialer reaches the server behind a unix socket, whatever address the
// client library has in mind.
type socketDialer string

// Dial connects to the socket.
func (s socketDialer) Dial(string, string) (net.Conn, error) {
	return net.DialTimeout("unix", string(s), connectTimeout)
}
