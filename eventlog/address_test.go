package eventlog

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

func TestAddressesThatNoServerHasAreRefused(t *testing.T) {
	for _, url := range []string{
		"unix:///run/s", "nats://h", "nats://h:4222", "tls://h:4222", "nats://u:p@h:1,nats://[::1]:2", "h", "h:4222", "geheim@h:1", "ws://h/x",
	} {
		if err := CheckAddress(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for url, says := range map[string]string{
		"http://x": "not http://", "foo://": "not foo://", "unix://run/s": "unix:///PATH", "nats://": "no host", "": "no host", "nats://h:99999": "port 99999",
		"nats://h:0": "port 0", "nats://h,": "no host", "nats://geheim:x@h:y": "port", "http://geheim@h": "not http://", "nats://ge%zzheim@h": "invalid URL escape",
	} {
		err := CheckAddress(url)
		if !errors.Is(err, ErrAddress) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "heim") {
			t.Errorf("%q: %v, want ErrAddress with %q", url, err, says)
		}
		if _, err := Connect(t.Context(), Options{URL: url}); !errors.Is(err, ErrAddress) {
			t.Errorf("connect to %q: %v", url, err)
		}
	}
}

func TestWhoIsNotLetInIsTold(t *testing.T) {
	s, err := StartServer(ServerOptions{
		Dir: filepath.Join(t.TempDir(), "nats"), Listen: "127.0.0.1:0", TokenFile: filepath.Join(t.TempDir(), "token"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := Connect(t.Context(), Options{URL: "nats://" + s.Addr().String(), Token: "wrong"}); !errors.Is(err, ErrAccess) {
		t.Errorf("%v, want ErrAccess", err)
	}
}

func TestAPortThatIsTakenIsToldAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = StartServer(ServerOptions{
		Dir: filepath.Join(t.TempDir(), "nats"), Listen: l.Addr().String(), TokenFile: filepath.Join(t.TempDir(), "token"),
	})
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("%v, want ErrBusy with the address", err)
	}
}

func TestOnlyLoopbackIsListenedOn(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:4277": true, "localhost:0": true, "[::1]:1": true, "0.0.0.0:4277": false, ":4277": false, "192.0.2.1:1": false,
		"127.0.0.1": false, "127.0.0.1:70000": false, "": false,
	} {
		if err := CheckListen(address); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}
