package adversary

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// peers abuse that a server may answer whoever spoke first.
func peers() []Technique {
	return many(
		both(Technique{Name: "forged peer freebind", How: "IP_FREEBIND: plays the destination, and is then answered", Needs: "a kernel that sends from it"}, func(a *attempt, family string) error {
			if family == "6" {
				return a.forgePeer(family, setInt(unix.SOL_IPV6, unix.IPV6_FREEBIND, 1))
			}
			return a.forgePeer(family, setInt(unix.SOL_IP, unix.IP_FREEBIND, 1))
		}),
		both(Technique{Name: "forged peer transparent", How: "IP_TRANSPARENT: plays the destination, and is then answered", Cap: "NET_RAW"}, func(a *attempt, family string) error {
			if family == "6" {
				return a.forgePeer(family, setInt(unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1))
			}
			return a.forgePeer(family, setInt(unix.SOL_IP, unix.IP_TRANSPARENT, 1))
		}),
		both(Technique{Name: "forged peer raw", How: "a raw socket plays the destination, which is then answered", Cap: "NET_RAW"}, forgePeerRaw),
		[]Technique{
			{Name: "reply udp", Family: "6", How: "an answer to a peer that wrote first", Phase: PhaseMany, run: func(a *attempt) error {
				return a.answer(WantDatagram, false)
			}},
			{Name: "reply udp other port", Family: "6", How: "to another port of a peer that wrote first", Phase: PhaseMany, run: func(a *attempt) error {
				return a.answer(WantDatagram, true)
			}},
			{Name: "reply tcp", Family: "6", How: "data on a connection that came in", Phase: PhaseMany, run: func(a *attempt) error {
				return a.answer(WantStream, false)
			}},
		})
}

func forgePeerRaw(a *attempt, family string) error {
	own, err := a.own(family)
	if err != nil {
		return err
	}
	peer := a.to(family)
	return socket(domain(own), unix.SOCK_DGRAM, 0, func(server int) error {
		if err := apply(server, []tweak{bindTo(anyAddr(family, a.Port()))}); err != nil {
			return err
		}
		packet := udpPacket(peer.Addr(), own, peer.Port(), a.Port(), []byte("-"))
		err := a.send(message{
			kind: unix.SOCK_RAW, proto: unix.IPPROTO_RAW, to: netip.AddrPortFrom(own, 0),
			text: ipPacket(peer.Addr(), own, unix.IPPROTO_UDP, packet),
		})
		if err != nil {
			return err
		}
		return a.reply(server)
	})
}

// answer serves, has the accomplice come, and answers.
func (a *attempt) answer(want string, otherPort bool) error {
	own, err := a.own("6")
	if err != nil {
		return err
	}
	kind := unix.SOCK_DGRAM
	if want == WantStream {
		kind = unix.SOCK_STREAM
	}
	return socket(unix.AF_INET6, kind, 0, func(fd int) error {
		// Not the technique's port: what comes must not bear the mark.
		if err := apply(fd, []tweak{bindTo(netip.AddrPortFrom(own, 0))}); err != nil {
			return err
		}
		at, err := boundTo(fd)
		if err != nil {
			return err
		}
		if kind == unix.SOCK_STREAM {
			return a.answerStream(fd, at)
		}
		if _, err := ask(a.Outside, Request{Want: want, To: at}, nil); err != nil {
			return err
		}
		_, from, err := unix.Recvfrom(fd, make([]byte, 64), 0)
		if err != nil {
			return step("recvfrom", err)
		}
		peer, ok := from.(*unix.SockaddrInet6)
		if !ok {
			return errors.New("the peer is not of IPv6")
		}
		if otherPort {
			peer.Port = int(a.Port())
		}
		return step("sendto", unix.Sendto(fd, a.text, 0, peer))
	})
}

func boundTo(fd int) (netip.AddrPort, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, step("getsockname", err)
	}
	six, ok := name.(*unix.SockaddrInet6)
	if !ok {
		return netip.AddrPort{}, errors.New("getsockname: not of IPv6")
	}
	return netip.AddrPortFrom(netip.AddrFrom16(six.Addr), uint16(six.Port)), nil
}

func (a *attempt) answerStream(fd int, at netip.AddrPort) error {
	if err := unix.Listen(fd, 1); err != nil {
		return step("listen", err)
	}
	if _, err := ask(a.Outside, Request{Want: WantStream, To: at}, nil); err != nil {
		return err
	}
	conn, _, err := unix.Accept(fd)
	if err != nil {
		return step("accept", err)
	}
	defer unix.Close(conn)
	return a.say(conn)
}
