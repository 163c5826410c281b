package adversary

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// raws are sockets of SOCK_RAW.
func raws() []Technique {
	raw := func(name string, proto4, proto6 int, how string, text func(a *attempt, from, to netip.Addr) []byte) []Technique {
		return both(Technique{Name: name, How: how, Cap: "NET_RAW"}, func(a *attempt, family string) error {
			own, err := a.own(family)
			if err != nil {
				return err
			}
			proto := proto4
			if family == "6" {
				proto = proto6
			}
			to := a.to(family).Addr()
			return a.send(message{kind: unix.SOCK_RAW, proto: proto, to: netip.AddrPortFrom(to, 0), text: text(a, own, to)})
		})
	}
	whole := func(a *attempt, from, to netip.Addr) []byte {
		return ipPacket(from, to, unix.IPPROTO_UDP, udpPacket(from, to, 4000, 443, a.text))
	}
	return many(
		raw("raw icmp", unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6, "an echo request", func(a *attempt, from, to netip.Addr) []byte {
			return echoRequest(from, to, a.text)
		}),
		raw("raw udp", unix.IPPROTO_UDP, unix.IPPROTO_UDP, "a datagram", func(a *attempt, from, to netip.Addr) []byte {
			return udpPacket(from, to, 4000, 443, a.text)
		}),
		raw("raw tcp", unix.IPPROTO_TCP, unix.IPPROTO_TCP, "a SYN with data", func(a *attempt, from, to netip.Addr) []byte {
			return tcpPacket(from, to, 4000, 443, a.text)
		}),
		raw("raw 253", protoExperiment, protoExperiment, "a protocol for experiments", func(a *attempt, _, _ netip.Addr) []byte { return a.text }),
		raw("raw ipip", unix.IPPROTO_IPIP, unix.IPPROTO_IPV6, "a packet in a packet", whole),
		raw("raw gre", unix.IPPROTO_GRE, unix.IPPROTO_GRE, "GRE", func(a *attempt, from, to netip.Addr) []byte {
			return append([]byte{0, 0, 8, 0}, whole(a, from, to)...)
		}),
		raw("raw esp", unix.IPPROTO_ESP, unix.IPPROTO_ESP, "ESP", func(a *attempt, _, _ netip.Addr) []byte {
			return append([]byte{0, 0, 1, 0, 0, 0, 0, 1}, a.text...)
		}),
		raw("raw header", unix.IPPROTO_RAW, unix.IPPROTO_RAW, "the whole packet, IPPROTO_RAW", whole),
		raw("raw spoofed", unix.IPPROTO_RAW, unix.IPPROTO_RAW, "the whole packet, from the neighbour's address", func(a *attempt, _, to netip.Addr) []byte {
			return whole(a, a.neighbour(to), to)
		}),
		both(Technique{Name: "raw connected", How: "connected, protocol 253", Cap: "NET_RAW"}, func(a *attempt, family string) error {
			return a.send(message{kind: unix.SOCK_RAW, proto: protoExperiment, connect: true, to: netip.AddrPortFrom(a.to(family).Addr(), 0)})
		}),
		both(Technique{Name: "raw hdrincl", How: "IP_HDRINCL on a raw UDP socket", Cap: "NET_RAW"}, rawHdrincl),
		[]Technique{{Name: "raw igmp", Family: "4", How: "IGMP by hand", Cap: "NET_RAW", Phase: PhaseMany, run: func(a *attempt) error {
			report := append([]byte{0x16, 0, 0, 0}, a.Group4().AsSlice()...)
			report = append(report, a.text...)
			binary.BigEndian.PutUint16(report[2:], checksum(report))
			to := netip.AddrPortFrom(a.Group4(), 0)
			return a.send(message{kind: unix.SOCK_RAW, proto: unix.IPPROTO_IGMP, to: to, text: report})
		}}})
}

func (a *attempt) neighbour(like netip.Addr) netip.Addr {
	if like.Is4() {
		return a.Neighbour4
	}
	return a.Neighbour6
}

func rawHdrincl(a *attempt, family string) error {
	own, err := a.own(family)
	if err != nil {
		return err
	}
	level, option := unix.SOL_IP, unix.IP_HDRINCL
	if family == "6" {
		level, option = unix.SOL_IPV6, unix.IPV6_HDRINCL
	}
	to := a.to(family).Addr()
	return a.send(message{
		kind: unix.SOCK_RAW, proto: unix.IPPROTO_UDP, to: netip.AddrPortFrom(to, 0),
		text:    ipPacket(own, to, unix.IPPROTO_UDP, udpPacket(own, to, 4000, 443, a.text)),
		prepare: []tweak{setInt(level, option, 1)},
	})
}

// kernelAnswers are packets that the container sends to itself in the name of
// the destination, so that its own kernel answers there: no socket of the
// container sends the answer.
func kernelAnswers() []Technique {
	forged := func(name, how string, packet func(a *attempt, from, own netip.Addr) (int, []byte)) []Technique {
		byRaw := both(Technique{Name: name + " by raw socket", How: how, Cap: "NET_RAW"}, func(a *attempt, family string) error {
			own, err := a.own(family)
			if err != nil {
				return err
			}
			from := a.to(family).Addr()
			proto, text := packet(a, from, own)
			return a.send(message{
				kind: unix.SOCK_RAW, proto: unix.IPPROTO_RAW, to: netip.AddrPortFrom(own, 0),
				text: ipPacket(from, own, proto, text),
			})
		})
		byLo := both(Technique{Name: name + " by packet socket", How: how + ", written to lo", Cap: "NET_RAW"}, func(a *attempt, family string) error {
			own, err := a.own(family)
			if err != nil {
				return err
			}
			from := a.to(family).Addr()
			proto, text := packet(a, from, own)
			return sendFrame("lo", nil, ipPacket(from, own, proto, text))
		})
		return many(byRaw, byLo)
	}
	return many(
		forged("forged echo", "an echo request from there: the kernel replies with the message", func(a *attempt, from, own netip.Addr) (int, []byte) {
			if from.Is4() {
				return unix.IPPROTO_ICMP, echoRequest(from, own, a.text)
			}
			return unix.IPPROTO_ICMPV6, echoRequest(from, own, a.text)
		}),
		forged("forged syn", "a SYN from there to a closed port: the kernel resets", func(a *attempt, from, own netip.Addr) (int, []byte) {
			return unix.IPPROTO_TCP, tcpPacket(from, own, 443, 9, a.text)
		}),
		forged("forged datagram", "a datagram from there to a closed port: the kernel answers that it is closed, with the message", func(a *attempt, from, own netip.Addr) (int, []byte) {
			return unix.IPPROTO_UDP, udpPacket(from, own, 443, 9, a.text)
		}),
		both(Technique{Name: "transit by lo", How: "a packet for there, written to lo: the kernel forwards", Needs: "forwarding inside the container", Cap: "NET_RAW"}, func(a *attempt, family string) error {
			to, from := a.to(family).Addr(), a.neighbour(a.to(family).Addr())
			return sendFrame("lo", nil, ipPacket(from, to, unix.IPPROTO_UDP, udpPacket(from, to, 4000, 443, a.text)))
		}))
}
