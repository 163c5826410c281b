package probe

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// technique sends a message to an echo server and reads it back.
type technique func(to netip.AddrPort, timeout time.Duration) error

var techniques = map[string]technique{
	"tcp":                  tcpConnect,
	"tcp_nonblocking":      tcpNonblocking,
	"tcp_fastopen_sendto":  tcpFastOpenSendto,
	"tcp_fastopen_connect": tcpFastOpenConnect,
	"tcp_mptcp":            tcpMPTCP,
	"tcp_uring":            tcpUring,
	"udp_connected":        udpConnected,
	"udp_reconnected":      udpReconnected,
	"udp_sendto":           udpSendto,
	"udp_sendmsg":          udpSendmsg,
	"udp_sendmmsg":         udpSendmmsg,
	"udp_v4_on_v6":         udpV4OnV6,
	"ping":                 ping,
	"join":                 join,
}

// Techniques lists the names for Dial of one transport, "tcp" or "udp". Besides
// them there are ping and join.
func Techniques(transport string) []string {
	names := slices.Sorted(maps.Keys(techniques))
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, transport) })
}

func tcpConnect(to netip.AddrPort, timeout time.Duration) error {
	return withSocket(to, unix.SOCK_STREAM, 0, timeout, func(s *socket) error {
		if err := s.connect(); err != nil {
			return err
		}
		return s.echoStream(true)
	})
}

func tcpNonblocking(to netip.AddrPort, timeout time.Duration) error {
	return withSocket(to, unix.SOCK_STREAM, 0, timeout, func(s *socket) error {
		if err := step("fcntl", unix.SetNonblock(s.fd, true)); err != nil {
			return err
		}
		if err := unix.Connect(s.fd, s.addr); !errors.Is(err, unix.EINPROGRESS) {
			if err = step("connect", err); err != nil {
				return err
			}
		}
		if err := s.writable(); err != nil {
			return err
		}
		if err := step("fcntl", unix.SetNonblock(s.fd, false)); err != nil {
			return err
		}
		return s.echoStream(true)
	})
}

func tcpFastOpenSendto(to netip.AddrPort, timeout time.Duration) error {
	return withSocket(to, unix.SOCK_STREAM, 0, timeout, func(s *socket) error {
		err := unix.Sendto(s.fd, message, unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL, s.addr)
		if errors.Is(err, unix.EINTR) { // connecting, with nothing sent yet
			if err := s.writable(); err != nil {
				return err
			}
			return s.echoStream(true)
		}
		if err = step("sendto", err); err != nil {
			return err
		}
		return s.echoStream(false)
	})
}

func tcpFastOpenConnect(to netip.AddrPort, timeout time.Duration) error {
	return withSocket(to, unix.SOCK_STREAM, 0, timeout, func(s *socket) error {
		err := unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1)
		if err = step("setsockopt", err); err != nil {
			return err
		}
		if err = s.connect(); err != nil {
			return err
		}
		return s.echoStream(true)
	})
}

func tcpMPTCP(to netip.AddrPort, timeout time.Duration) error {
	return withSocket(to, unix.SOCK_STREAM, unix.IPPROTO_MPTCP, timeout, func(s *socket) error {
		if err := s.connect(); err != nil {
			return err
		}
		return s.echoStream(true)
	})
}

func tcpUring(to netip.AddrPort, timeout time.Duration) error {
	return withSocket(to, unix.SOCK_STREAM, 0, timeout, func(s *socket) error {
		if err := uringConnect(s.fd, s.to); err != nil {
			return err
		}
		return s.echoStream(true)
	})
}

func udpConnected(to netip.AddrPort, timeout time.Duration) error {
	return withSocket(to, unix.SOCK_DGRAM, 0, timeout, func(s *socket) error {
		if err := s.connect(); err != nil {
			return err
		}
		_, err := unix.Write(s.fd, message)
		if err = step("send", err); err != nil {
			return err
		}
		return s.echoPacket()
	})
}

// udpReconnected connects to itself, dissolves that with AF_UNSPEC, and then
// connects to the destination.
func udpReconnected(to netip.AddrPort, timeout time.Duration) error {
	return withSocket(to, unix.SOCK_DGRAM, 0, timeout, func(s *socket) error {
		if err := step("connect loopback", unix.Connect(s.fd, s.loopback())); err != nil {
			return err
		}
		if err := step("connect AF_UNSPEC", disconnect(s.fd)); err != nil {
			return err
		}
		if err := s.connect(); err != nil {
			return err
		}
		_, err := unix.Write(s.fd, message)
		if err = step("send", err); err != nil {
			return err
		}
		return s.echoPacket()
	})
}

func udpSendto(to netip.AddrPort, timeout time.Duration) error {
	return withSocket(to, unix.SOCK_DGRAM, 0, timeout, func(s *socket) error {
		if err := step("sendto", unix.Sendto(s.fd, message, 0, s.addr)); err != nil {
			return err
		}
		return s.echoPacket()
	})
}

func udpSendmsg(to netip.AddrPort, timeout time.Duration) error {
	return withSocket(to, unix.SOCK_DGRAM, 0, timeout, func(s *socket) error {
		if err := step("sendmsg", unix.Sendmsg(s.fd, message, nil, s.addr, 0)); err != nil {
			return err
		}
		return s.echoPacket()
	})
}

func udpSendmmsg(to netip.AddrPort, timeout time.Duration) error {
	return withSocket(to, unix.SOCK_DGRAM, 0, timeout, func(s *socket) error {
		if err := step("sendmmsg", sendmmsg(s.fd, s.to, message)); err != nil {
			return err
		}
		return s.echoPacket()
	})
}

// udpV4OnV6 gives an IPv6 socket an IPv4 address; where there is none to give
// it is as udpConnected.
func udpV4OnV6(to netip.AddrPort, timeout time.Duration) error {
	six := netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port())
	return withSocket(six, unix.SOCK_DGRAM, 0, timeout, func(s *socket) error {
		if err := step("connect", unix.Connect(s.fd, sockaddr(to))); err != nil {
			return err
		}
		_, err := unix.Write(s.fd, message)
		if err = step("send", err); err != nil {
			return err
		}
		return s.echoPacket()
	})
}

// ping asks for an echo by a socket that takes no privilege. The port says
// nothing.
func ping(to netip.AddrPort, timeout time.Duration) error {
	proto, request := unix.IPPROTO_ICMP, byte(8)
	if to.Addr().Is6() {
		proto, request = unix.IPPROTO_ICMPV6, 128
	}
	return withSocket(to, unix.SOCK_DGRAM, proto, timeout, func(s *socket) error {
		const header = 8
		text := append([]byte{request, header - 1: 0}, message...)
		if err := step("sendto", unix.Sendto(s.fd, text, 0, s.addr)); err != nil {
			return err
		}
		buf := make([]byte, 64)
		n, err := s.read(buf)
		if err != nil {
			return err
		}
		return compare(buf[min(header, n):n])
	})
}

// join joins a group of IPv4, which the kernel tells the link.
func join(to netip.AddrPort, timeout time.Duration) error {
	return withSocket(to, unix.SOCK_DGRAM, 0, timeout, func(s *socket) error {
		return step("setsockopt", unix.SetsockoptIPMreq(s.fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreq{Multiaddr: to.Addr().As4()}))
	})
}
