package eventlog

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/egresswarden/egresswarden/schemas"
)

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestTheServerIsReachedThroughItsSocketWithoutAPort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "nats.sock")
	s := startServer(t, func(o *ServerOptions) { o.Socket = path })
	if s.Addr() != nil {
		t.Errorf("it listens on %v", s.Addr())
	}
	if got := mode(t, path); got != 0o600 {
		t.Errorf("socket has mode %o, want 600", got)
	}
	connect(t, s.Options())
	l := connect(t, Options{URL: "unix://" + path, ReadOnly: true})
	if err := l.PublishHost(testContext(t), &schemas.HostEvent{Host: "h", Kind: "k"}); err != nil {
		t.Error(err)
	}
}

func TestASecondServerIsRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	startServer(t, func(o *ServerOptions) { o.Dir, o.Socket = filepath.Join(dir, "a"), path })
	for name, o := range map[string]ServerOptions{
		"same directory": {Dir: filepath.Join(dir, "a")},
		"same socket":    {Dir: filepath.Join(dir, "b"), Socket: path},
	} {
		if s, err := StartServer(o); !errors.Is(err, ErrBusy) {
			t.Errorf("%s: %v, %v; want ErrBusy", name, s, err)
		}
	}
	connect(t, Options{URL: "unix://" + path}) // the first is as it was
}

func TestASocketLeftByADeadServerIsTakenOver(t *testing.T) {
	o := newOutside(t)
	o.start(t).kill()
	o.start(t)
	connect(t, o.options())
}

func TestAClientFromTheNetworkNeedsTheToken(t *testing.T) {
	dir := t.TempDir()
	tokenFile, path := filepath.Join(dir, "token"), filepath.Join(dir, "s")
	s := startServer(t, func(o *ServerOptions) {
		o.Listen, o.TokenFile, o.Socket = "127.0.0.1:0", tokenFile, path
	})
	if got := mode(t, tokenFile); got != 0o600 {
		t.Errorf("token has mode %o, want 600", got)
	}
	url := "nats://" + s.Addr().String()
	connect(t, Options{URL: url, TokenFile: tokenFile})
	connect(t, s.Options())
	connect(t, Options{URL: "unix://" + path})
	for name, o := range map[string]Options{
		"none":  {URL: url},
		"wrong": {URL: url, Token: "guess"},
	} {
		if l, err := Connect(testContext(t), o); err == nil {
			l.Close()
			t.Errorf("token %s: connected", name)
		}
	}
}

func TestServerOptionsThatWouldOpenTooMuchAreRefused(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]ServerOptions{
		"every address": {Listen: "0.0.0.0:0", TokenFile: "x"},
		"no address":    {Listen: ":4222", TokenFile: "x"},
		"no port":       {Listen: "127.0.0.1", TokenFile: "x"},
		"odd port":      {Listen: "127.0.0.1:70000", TokenFile: "x"},
		"no token":      {Listen: "127.0.0.1:0"},
		"empty token":   {Listen: "127.0.0.1:0", TokenFile: empty},
	} {
		o.Dir = t.TempDir()
		if s, err := StartServer(o); err == nil {
			t.Errorf("%s: started", name)
			_ = s.Close()
		}
	}
}

func TestAnOperatorsOwnLimitsStay(t *testing.T) {
	s := startServer(t)
	l := connect(t, s.Options())
	ctx := testContext(t)
	stream, err := l.js.Stream(ctx, schemas.StreamFlows)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxBytes = 12345678
	if _, err := l.js.UpdateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ asked, want int64 }{{0, 12345678}, {1 << 20, 1 << 20}, {0, 1 << 20}} {
		again := connect(t, Options{InProcess: s, MaxFlowBytes: test.asked})
		stream, err := again.js.Stream(ctx, schemas.StreamFlows)
		if err != nil {
			t.Fatal(err)
		}
		if got := stream.CachedInfo().Config.MaxBytes; got != test.want {
			t.Errorf("asked for %d: stream has %d, want %d", test.asked, got, test.want)
		}
	}
}

func TestReadingWithoutStreamsIsNotFound(t *testing.T) {
	l := connect(t, Options{InProcess: startServer(t), ReadOnly: true})
	for _, err := range l.Flows(testContext(t), FlowQuery{Last: 20, Follow: true}) {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
		return
	}
	t.Error("no error")
}
