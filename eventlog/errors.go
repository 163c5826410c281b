package eventlog

import (
	"errors"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// The errors that callers tell apart.
var (
	// ErrVersion: the server is older than MinServerVersion.
	ErrVersion = errors.New("nats server too old")
	// ErrStale: the subject has moved on since the expected sequence was read.
	ErrStale = errors.New("stale: the log has moved on")
	// ErrNotFound: no such stream, or the asked host knows no such thing.
	ErrNotFound = errors.New("not found")
	// ErrNoAnswer: nobody answers the question, so the host's enforcer is not
	// there.
	ErrNoAnswer = errors.New("no answer")
	// ErrMessage: one message of a stream cannot be read; the reading goes on
	// behind it.
	ErrMessage = errors.New("unreadable message")
	// ErrClosed: the writer or the log has been closed.
	ErrClosed = errors.New("closed")
	// ErrOrder: flows came without a position or not in the ring's order.
	ErrOrder = errors.New("flows out of order")
	// ErrAddress: no server can have such an address.
	ErrAddress = errors.New("want unix:///PATH, nats://HOST:PORT or tls://HOST:PORT")
	// ErrAccess: the server does not take the token, credentials or certificate.
	ErrAccess = errors.New("the server does not let us in")
	// ErrBusy: another server owns the directory, the socket or the port.
	ErrBusy = errors.New("in use by another server")
)

// Codes of the server's API that the client library has no name for.
const (
	codeStoreFailed         jetstream.ErrorCode = 10077
	codeNoResources         jetstream.ErrorCode = 10023
	codeAccountResources    jetstream.ErrorCode = 10002
	codeWrongLastSequence   jetstream.ErrorCode = 10071
	codeWrongSequenceOrBusy jetstream.ErrorCode = 10164
)

// apiCode gives the code of a server's refusal, 0 for any other error.
func apiCode(err error) jetstream.ErrorCode {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode
	}
	return 0
}

func isWrongSequence(err error) bool {
	code := apiCode(err)
	return code == codeWrongLastSequence || code == codeWrongSequenceOrBusy
}

// isFull tells whether a stream or its account has no room left. The code for
// a full stream is that of any refused write, so the text decides.
func isFull(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode {
	case codeNoResources, codeAccountResources:
		return true
	case codeStoreFailed:
		return strings.Contains(api.Description, "maximum bytes") || strings.Contains(api.Description, "maximum messages")
	}
	return false
}
