package main

import (
	"errors"

	"golang.org/x/sys/unix"
)

// makeClose is all that a socket costs which does nothing.
func makeClose(kind int) error {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// openLink makes the socket for a kind of turn over the link, once.
func (k *worker) openLink(t turn) error {
	if k.links[t.Kind] > 0 {
		return nil
	}
	kind := unix.SOCK_DGRAM
	if t.Kind == linkStream {
		kind = unix.SOCK_STREAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	k.links[t.Kind] = fd
	if t.Kind == linkSendto {
		return nil
	}
	if t.Kind == linkStream {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	to := &unix.SockaddrInet4{Port: int(t.To.Port()), Addr: t.To.Addr().As4()}
	return errors.Join(err, unix.Connect(fd, to))
}

// writeAll writes on where a signal cut it short.
func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := retry(func() (int, error) { return unix.Write(fd, b) })
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
