package eventlog

import (
	"errors"
	"fmt"
	"net"
	neturl "net/url"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// CheckAddress refuses, with ErrAddress, what Options.URL cannot mean. Its error
// holds no user, password or token.
func CheckAddress(url string) error {
	if path, ok := strings.CutPrefix(url, "unix://"); ok {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("%w: a socket is named as unix:///PATH", ErrAddress)
		}
		return nil
	}
	for one := range strings.SplitSeq(url, ",") {
		if err := checkServer(strings.TrimSpace(one)); err != nil {
			return err
		}
	}
	return nil
}

func checkServer(one string) error {
	if !strings.Contains(one, "://") {
		one = "nats://" + one
	}
	u, err := neturl.Parse(one)
	if odd := (*neturl.Error)(nil); errors.As(err, &odd) {
		return fmt.Errorf("%w: %w", ErrAddress, odd.Err)
	}
	switch u.Scheme {
	case "nats", "tls", "ws", "wss":
	default:
		return fmt.Errorf("%w, not %s://", ErrAddress, u.Scheme)
	}
	if u.Hostname() == "" {
		return fmt.Errorf("%w: there is no host in it", ErrAddress)
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("%w: port %s is none", ErrAddress, p)
		}
	}
	return nil
}

// CheckListen refuses all but a loopback address with a port to listen on.
func CheckListen(address string) error {
	_, _, err := parseListen(address)
	return err
}

func parseListen(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("listen on %q: want a loopback address with a port, like 127.0.0.1:4277", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", 0, fmt.Errorf("listen on %q: want a loopback address", address)
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("listen on %q: the port is no number up to 65535", address)
	}
	return host, int(number), nil
}

// free tells whether somebody else has the address, which is ErrBusy: the
// server would wait for it in silence.
func free(address string) error {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("listen on %s: %w", address, ErrBusy)
	}
	if err != nil {
		return err
	}
	return l.Close()
}
