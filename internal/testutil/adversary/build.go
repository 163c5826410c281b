package adversary

import (
	"encoding/binary"
	"net/netip"

	"github.com/egresswarden/egresswarden/internal/testutil/probe"
	"golang.org/x/sys/unix"
)

func rawAddr(a netip.AddrPort) []byte { return probe.RawSockaddr(a) }

// ipPacket is IPv4 or IPv6 by the addresses.
func ipPacket(from, to netip.Addr, proto int, rest []byte) []byte {
	if to.Is4() {
		b := []byte{0x45, 0, 0, 0, 0x12, 0x34, 0, 0, 64, byte(proto), 0, 0}
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(rest)))
		b = append(append(b, from.AsSlice()...), to.AsSlice()...)
		binary.BigEndian.PutUint16(b[10:], checksum(b))
		return append(b, rest...)
	}
	b := []byte{0x60, 0, 0, 0, 0, 0, byte(proto), 64}
	binary.BigEndian.PutUint16(b[4:], uint16(len(rest)))
	return append(append(append(b, from.AsSlice()...), to.AsSlice()...), rest...)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// pseudo is the checksum with the addresses.
func pseudo(from, to netip.Addr, proto int, rest []byte) uint16 {
	b := append(from.AsSlice(), to.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(rest)))
	b = binary.BigEndian.AppendUint32(b, uint32(proto))
	return checksum(append(b, rest...))
}

func udpPacket(from, to netip.Addr, sport, dport uint16, text []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, sport)
	b = binary.BigEndian.AppendUint16(b, dport)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(text)))
	b = append(append(b, 0, 0), text...)
	binary.BigEndian.PutUint16(b[6:], pseudo(from, to, unix.IPPROTO_UDP, b))
	return b
}

// tcpPacket is a SYN.
func tcpPacket(from, to netip.Addr, sport, dport uint16, text []byte) []byte {
	const words, syn = 5 << 4, 2
	b := binary.BigEndian.AppendUint16(nil, sport)
	b = binary.BigEndian.AppendUint16(b, dport)
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 0, words, syn, 0x20, 0, 0, 0, 0, 0)
	b = append(b, text...)
	binary.BigEndian.PutUint16(b[16:], pseudo(from, to, unix.IPPROTO_TCP, b))
	return b
}

func echoRequest(from, to netip.Addr, text []byte) []byte {
	if from.Is4() {
		b := append([]byte{8, 0, 0, 0, 0, 1, 0, 1}, text...)
		binary.BigEndian.PutUint16(b[2:], checksum(b))
		return b
	}
	b := append([]byte{128, 0, 0, 0, 0, 1, 0, 1}, text...)
	binary.BigEndian.PutUint16(b[2:], pseudo(from, to, unix.IPPROTO_ICMPV6, b))
	return b
}
