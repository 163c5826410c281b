package eventlog

import (
	"log/slog"
	"net"
	"time"
)

// DefaultSocket is where the embedded server of a host listens for the
// host's own tools.
const DefaultSocket = "/run/egresswarden/nats.sock"

// InProcess gives connections to a server in the same process.
type InProcess interface {
	InProcessConn() (net.Conn, error)
}

// Options say which server to speak to, and how.
type Options struct {
	// URL is nats://, tls:// or unix:///path; several servers of a cluster are
	// separated by commas. Not looked at with InProcess.
	URL string
	// InProcess, if set, is the embedded server itself.
	InProcess InProcess
	// Token or TokenFile is a plain token; the file is read at each connect.
	Token, TokenFile string
	// CredsFile holds a user's JWT and seed.
	CredsFile string
	// CAFile, if set, holds the only authorities that may vouch for the server;
	// CertFile and KeyFile show who we are.
	CAFile, CertFile, KeyFile string
	// Name is what the server shows for this connection.
	Name string
	// ReadOnly leaves the streams as they are, also when they are missing.
	ReadOnly bool
	// Streams are those that are made and put right; empty is all.
	Streams []string
	// MaxFlowBytes and MaxFlowAge bound EGW_FLOWS; 0 keeps what an existing
	// stream has, and gives a new one DefaultFlowBytes and DefaultFlowAge.
	MaxFlowBytes int64
	MaxFlowAge   time.Duration
	// Replicas of new streams in a cluster; 0 is 1.
	Replicas int
	// Log may be nil.
	Log *slog.Logger
}

// Bounds of a new EGW_FLOWS.
const (
	DefaultFlowBytes = 4 << 30
	DefaultFlowAge   = 30 * 24 * time.Hour
)

func (o Options) logger() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}
