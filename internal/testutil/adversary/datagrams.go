package adversary

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	solUDP     = 17
	udpCork    = 1
	udpSegment = 103
)

// datagrams are ways of UDP that the probe does not have.
func datagrams() []Technique {
	plain := func(name, how string, change func(a *attempt, m *message)) []Technique {
		return both(Technique{Name: name, How: how}, func(a *attempt, family string) error {
			m := message{to: a.to(family)}
			change(a, &m)
			return a.send(m)
		})
	}
	all := many(
		plain("udp_confirm", "MSG_CONFIRM", func(_ *attempt, m *message) { m.flags = unix.MSG_CONFIRM }),
		plain("udp_zerocopy", "MSG_ZEROCOPY", func(_ *attempt, m *message) {
			m.flags, m.prepare = unix.MSG_ZEROCOPY, []tweak{setInt(unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1)}
		}),
		plain("udp_device", "SO_BINDTODEVICE to eth0", func(_ *attempt, m *message) {
			m.prepare = []tweak{setBytes(unix.SOL_SOCKET, unix.SO_BINDTODEVICE, []byte(device))}
		}),
		plain("udp_segment", "UDP_SEGMENT: the kernel cuts one send into many", func(a *attempt, m *message) {
			m.text = append(append([]byte{}, a.text...), a.text...)
			m.prepare = []tweak{setInt(solUDP, udpSegment, len(a.text))}
		}),
		plain("udp_tos", "a class by control message", func(_ *attempt, m *message) {
			m.control = control(unix.SOL_IP, unix.IP_TOS, word(8))
			if m.to.Addr().Is6() {
				m.control = control(unix.SOL_IPV6, unix.IPV6_TCLASS, word(8))
			}
		}),
		both(Technique{Name: "udp_renamed", How: "connected to what is allowed, sent elsewhere by name"}, udpRenamed),
		both(Technique{Name: "udp_corked", How: "MSG_MORE to what is allowed, the rest elsewhere", Needs: "a kernel that takes the second address"}, udpCorked),
		both(Technique{Name: "udp_cork_first", How: "UDP_CORK, sent elsewhere, and uncorked"}, udpCorkFirst),
		both(Technique{Name: "udp_mmsg", How: "sendmmsg: one to what is allowed, one elsewhere"}, udpMixed),
		both(Technique{Name: "udp_mark", How: "SO_MARK", Cap: "NET_ADMIN"}, func(a *attempt, family string) error {
			return a.send(message{to: a.to(family), prepare: []tweak{setInt(unix.SOL_SOCKET, unix.SO_MARK, 77)}})
		}),
		both(Technique{Name: "udp_unicast_if", How: "IP_UNICAST_IF to eth0"}, udpUnicastIf),
		both(Technique{Name: "udp_pktinfo", How: "IP_PKTINFO with eth0's index"}, udpPktinfo),
		both(Technique{Name: "udp_loopback_out", How: "a loopback address, by IP_PKTINFO and SO_BINDTODEVICE out of eth0", Needs: "a kernel that sends loopback addresses out"}, udpLoopbackOut),
		both(Technique{Name: "udp_bound_elsewhere", How: "IP_FREEBIND to a foreign source", Needs: "a kernel that sends from it"}, udpFreebind),
	)
	return append(all,
		Technique{Name: "udp_flowlabel", Family: "6", How: "a flow label with its own information", Phase: PhaseMany, run: udpFlowLabel},
		Technique{Name: "udp_scoped", Family: "6", How: "a scope on a global address", Phase: PhaseMany, run: func(a *attempt) error {
			to := netip.AddrPortFrom(a.Addr6().WithZone(device), 443)
			return a.send(message{to: to})
		}})
}

func word(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func udpRenamed(a *attempt, family string) error {
	return socket(domain(a.to(family).Addr()), unix.SOCK_DGRAM, 0, func(fd int) error {
		if err := connect(fd, a.allowed(family)); err != nil {
			return err
		}
		return step("sendto", unix.Sendto(fd, a.text, 0, sockaddr(a.to(family))))
	})
}

// udpCorked: Linux keeps to the first destination.
func udpCorked(a *attempt, family string) error {
	return socket(domain(a.to(family).Addr()), unix.SOCK_DGRAM, 0, func(fd int) error {
		if err := unix.Sendto(fd, []byte("-"), unix.MSG_MORE, sockaddr(a.allowed(family))); err != nil {
			return step("sendto", err)
		}
		// Without the mark in the text: where it goes tells.
		return step("sendto", unix.Sendto(fd, []byte("-"), 0, sockaddr(a.to(family))))
	})
}

func udpCorkFirst(a *attempt, family string) error {
	return socket(domain(a.to(family).Addr()), unix.SOCK_DGRAM, 0, func(fd int) error {
		if err := apply(fd, []tweak{setInt(solUDP, udpCork, 1)}); err != nil {
			return err
		}
		if err := step("sendto", unix.Sendto(fd, a.text, 0, sockaddr(a.to(family)))); err != nil {
			return err
		}
		return apply(fd, []tweak{setInt(solUDP, udpCork, 0)})
	})
}

func udpMixed(a *attempt, family string) error {
	return socket(domain(a.to(family).Addr()), unix.SOCK_DGRAM, 0, func(fd int) error {
		n, err := sendmmsg(fd, []byte("-"), a.allowed(family), a.to(family))
		if err == nil && n != 2 {
			// The kernel tells the error of the second at the next call.
			err = unix.Sendto(fd, []byte("-"), 0, sockaddr(a.to(family)))
		}
		return step("sendmmsg", err)
	})
}

func udpUnicastIf(a *attempt, family string) error {
	index := int(binary.NativeEndian.Uint32(binary.BigEndian.AppendUint32(nil, uint32(ifindex(device)))))
	option := setInt(unix.SOL_IP, unix.IP_UNICAST_IF, index)
	if family == "6" {
		option = setInt(unix.SOL_IPV6, unix.IPV6_UNICAST_IF, index)
	}
	return a.send(message{to: a.to(family), prepare: []tweak{option}})
}

func pktinfo(family string, source netip.Addr) []byte {
	if family == "4" {
		b := word(uint32(ifindex(device)))
		b = append(b, source.AsSlice()...)
		return control(unix.SOL_IP, unix.IP_PKTINFO, append(b, make([]byte, 4)...))
	}
	return control(unix.SOL_IPV6, unix.IPV6_PKTINFO, append(source.AsSlice(), word(uint32(ifindex(device)))...))
}

func unspecified(family string) netip.Addr { return anyAddr(family, 0).Addr() }

func udpPktinfo(a *attempt, family string) error {
	return a.send(message{to: a.to(family), control: pktinfo(family, unspecified(family))})
}

func udpLoopbackOut(a *attempt, family string) error {
	to := a.at(netip.MustParseAddr("127.9.9.9"))
	if family == "6" {
		to = a.at(netip.IPv6Loopback())
	}
	return a.send(message{
		to: to, control: pktinfo(family, unspecified(family)),
		prepare: []tweak{setBytes(unix.SOL_SOCKET, unix.SO_BINDTODEVICE, []byte(device))},
	})
}

func udpFreebind(a *attempt, family string) error {
	level, option, source := unix.SOL_IP, unix.IP_FREEBIND, netip.MustParseAddr("10.203.100.250")
	if family == "6" {
		level, option, source = unix.SOL_IPV6, unix.IPV6_FREEBIND, netip.MustParseAddr("fd00:203:1::fa")
	}
	return a.send(message{to: a.to(family), prepare: []tweak{
		setInt(level, option, 1), bindTo(netip.AddrPortFrom(source, 0)),
	}})
}

// udpFlowLabel asks for a label of its own, which carries 20 bits besides.
func udpFlowLabel(a *attempt) error {
	label := flowRequest(a.Addr6(), a.Number)
	return a.send(message{to: a.to6(), flow: uint32(a.Number), prepare: []tweak{
		setBytes(unix.SOL_IPV6, flowLabelMgr, label), setInt(unix.SOL_IPV6, flowInfoSend, 1),
	}})
}

// sendmmsg sends the text to each, and says how many the kernel took.
func sendmmsg(fd int, text []byte, to ...netip.AddrPort) (int, error) {
	type mmsghdr struct {
		hdr  unix.Msghdr
		sent uint32
		_    uint32
	}
	iov := unix.Iovec{Base: &text[0]}
	iov.SetLen(len(text))
	all := make([]mmsghdr, len(to))
	for i, one := range to {
		name := rawAddr(one)
		all[i].hdr.Name, all[i].hdr.Namelen, all[i].hdr.Iov = &name[0], uint32(len(name)), &iov
		all[i].hdr.SetIovlen(1)
	}
	n, _, no := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&all[0])), uintptr(len(all)), 0, 0, 0)
	return int(n), errnoOrNil(no)
}
