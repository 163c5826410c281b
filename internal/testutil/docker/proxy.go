package docker

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// Proxy stands between a client and the engine and does what an engine in
// trouble does.
type Proxy struct {
	Socket string

	upstream *httputil.ReverseProxy
	server   *http.Server
	empty    atomic.Int32
	lists    atomic.Int32
	done     chan error
}

// NewProxy listens at socket until the test ends.
func (d *Daemon) NewProxy(t testing.TB, socket string) *Proxy {
	t.Helper()
	p := &Proxy{Socket: socket, upstream: &httputil.ReverseProxy{
		FlushInterval: -1, // events are passed on as they come
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "docker"
		},
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", d.Socket)
		}},
	}}
	p.Resume(t)
	t.Cleanup(func() { p.Cut(t) })
	return p
}

// ServeHTTP passes the request on, but for lists that are to be empty.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/containers/json") {
		p.lists.Add(1)
		if p.empty.Add(-1) >= 0 {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte("[]\n"))
			return
		}
	}
	p.upstream.ServeHTTP(w, r)
}

// EmptyLists makes the next n lists of containers empty.
func (p *Proxy) EmptyLists(n int) { p.empty.Store(int32(n)) }

// Lists is how many lists were asked for.
func (p *Proxy) Lists() int { return int(p.lists.Load()) }

// Cut ends every connection and refuses new ones.
func (p *Proxy) Cut(t testing.TB) {
	t.Helper()
	if p.server == nil {
		return
	}
	if err := p.server.Close(); err != nil {
		t.Errorf("cut the docker proxy: %v", err)
	}
	if err := <-p.done; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("docker proxy: %v", err)
	}
	p.server = nil
}

// Resume takes connections again.
func (p *Proxy) Resume(t testing.TB) {
	t.Helper()
	_ = os.Remove(p.Socket)
	l, err := net.Listen("unix", p.Socket)
	if err != nil {
		t.Fatalf("docker proxy: %v", err)
	}
	p.server, p.done = &http.Server{Handler: p}, make(chan error, 1) //nolint:gosec // a unix socket of the test's
	go func(s *http.Server) { p.done <- s.Serve(l) }(p.server)
}
