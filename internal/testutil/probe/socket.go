package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// message is what echo servers send back.
var message = []byte("egresswarden probe")

// errEcho is an answer that is not what was sent.
var errEcho = errors.New("the answer is not what was sent")

// socket is one attempt's.
type socket struct {
	fd      int
	to      netip.AddrPort
	addr    unix.Sockaddr
	timeout time.Duration
}

// withSocket opens a blocking socket with timeouts, which also bound connect,
// and closes it after use.
func withSocket(to netip.AddrPort, kind, proto int, timeout time.Duration, use func(*socket) error) error {
	fd, err := unix.Socket(domain(to.Addr()), kind|unix.SOCK_CLOEXEC, proto)
	if proto == unix.IPPROTO_MPTCP && noProtocol(err) {
		return fmt.Errorf("%w: MPTCP: %w", errUnavailable, err)
	}
	if err = step("socket", err); err != nil {
		return err
	}
	defer unix.Close(fd)
	tv := unix.NsecToTimeval(timeout.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv))
	if err = step("setsockopt", err); err != nil {
		return err
	}
	return use(&socket{fd, to, sockaddr(to), timeout})
}

func domain(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func noProtocol(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOPROTOOPT)
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// loopback is the family's own host, which no policy concerns.
func (s *socket) loopback() unix.Sockaddr {
	if s.to.Addr().Is4() {
		return sockaddr(netip.MustParseAddrPort("127.0.0.1:9"))
	}
	return sockaddr(netip.MustParseAddrPort("[::1]:9"))
}

// echoStream sends the message, unless it went with the connect, and reads it
// back.
func (s *socket) echoStream(send bool) error {
	if send {
		err := step("send", unix.Sendto(s.fd, message, unix.MSG_NOSIGNAL, nil))
		if err != nil {
			return err
		}
	}
	var got []byte
	for buf := make([]byte, 64); len(got) < len(message); {
		n, err := s.read(buf)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		got = append(got, buf[:n]...)
	}
	return compare(got)
}

func (s *socket) echoPacket() error {
	buf := make([]byte, 64)
	n, err := s.read(buf)
	if err != nil {
		return err
	}
	return compare(buf[:n])
}

// read goes on after a signal, which Go's scheduler sends itself.
func (s *socket) read(buf []byte) (int, error) {
	for {
		n, err := unix.Read(s.fd, buf)
		if !errors.Is(err, unix.EINTR) {
			return n, step("recv", err)
		}
	}
}

// connect goes on after a signal: the connect itself does, unattended.
func (s *socket) connect() error {
	err := unix.Connect(s.fd, s.addr)
	if errors.Is(err, unix.EINTR) {
		return s.writable()
	}
	return step("connect", err)
}

func compare(got []byte) error {
	if !bytes.Equal(got, message) {
		return step("recv", fmt.Errorf("%w: %q", errEcho, got))
	}
	return nil
}

// writable waits for the end of a connect and returns its error.
func (s *socket) writable() error {
	p := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}
	for end := time.Now().Add(s.timeout); ; {
		n, err := unix.Poll(p, int(time.Until(end).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err = step("poll", err); err != nil {
			return err
		}
		if n == 0 {
			return step("connect", unix.ETIMEDOUT)
		}
		no, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil || no == 0 {
			return step("getsockopt", err)
		}
		return step("connect", unix.Errno(no))
	}
}

// RawSockaddr is the address as the kernel reads it.
func RawSockaddr(a netip.AddrPort) []byte {
	if a.Addr().Is4() {
		b := make([]byte, unix.SizeofSockaddrInet4)
		binary.NativeEndian.PutUint16(b, unix.AF_INET)
		binary.BigEndian.PutUint16(b[2:], a.Port())
		copy(b[4:], a.Addr().AsSlice())
		return b
	}
	b := make([]byte, unix.SizeofSockaddrInet6)
	binary.NativeEndian.PutUint16(b, unix.AF_INET6)
	binary.BigEndian.PutUint16(b[2:], a.Port())
	ip := a.Addr().As16()
	copy(b[8:], ip[:])
	return b
}

// disconnect dissolves a datagram socket's association.
func disconnect(fd int) error {
	var a unix.RawSockaddr // AF_UNSPEC
	_, _, no := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&a)), unix.SizeofSockaddrInet4)
	return errnoOrNil(no)
}

// mmsghdr is the kernel's struct of that name on 64-bit machines.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   uint32
}

func sendmmsg(fd int, to netip.AddrPort, text []byte) error {
	name := RawSockaddr(to)
	iov := unix.Iovec{Base: &text[0]}
	iov.SetLen(len(text))
	var m mmsghdr
	m.hdr.Name, m.hdr.Namelen = &name[0], uint32(len(name))
	m.hdr.Iov = &iov
	m.hdr.SetIovlen(1)
	_, _, no := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m)), 1, 0, 0, 0)
	return errnoOrNil(no)
}

func errnoOrNil(no unix.Errno) error {
	if no == 0 {
		return nil
	}
	return no
}
