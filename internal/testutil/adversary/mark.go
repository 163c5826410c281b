package adversary

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Mark says whose a frame is: the run, from 1 to MostRuns, and the number of
// the technique.
type Mark struct{ Run, Number int }

// MostRuns bounds a Mark's Run.
const MostRuns = 15

// Marks in addresses and ports. The range is one that the tests' world owns.
const (
	markNet1, markNet2 = 198, 18
	groupNet           = 239
	markPorts          = 0x4000
	numberBits         = 10
	textPrefix         = "egwt-"
)

func (m Mark) bits() int { return m.Run<<numberBits | m.Number }

func fromBits(bits int) (Mark, bool) {
	m := Mark{bits >> numberBits, bits & (1<<numberBits - 1)}
	return m, m.Run > 0 && m.Run <= MostRuns
}

// Addr4 is the technique's own destination.
func (m Mark) Addr4() netip.Addr {
	return netip.AddrFrom4([4]byte{markNet1, markNet2, byte(m.bits() >> 8), byte(m.bits())})
}

// Group4 is the technique's own multicast group.
func (m Mark) Group4() netip.Addr {
	return netip.AddrFrom4([4]byte{groupNet, markNet2, byte(m.bits() >> 8), byte(m.bits())})
}

// Addr6 is 2001:db8::198.18.x.y.
func (m Mark) Addr6() netip.Addr { return m.in(netip.MustParseAddr("2001:db8::"), 12) }

// in puts the IPv4 mark into an IPv6 address.
func (m Mark) in(a netip.Addr, at int) netip.Addr {
	b, four := a.As16(), m.Addr4().As4()
	copy(b[at:], four[:])
	return netip.AddrFrom16(b)
}

// Port is the technique's own, for destinations that are not.
func (m Mark) Port() uint16 { return uint16(markPorts + m.bits()) }

// Text is the technique's own payload: fit for a name of DNS, too.
func (m Mark) Text() string { return fmt.Sprintf("%s%02d-%03d", textPrefix, m.Run, m.Number) }

var textLen = len(Mark{}.Text())

// Find finds the marks in a frame, or in any text. Texts come first: they tell
// the sender even when the address is another's.
func Find(frame []byte) []Mark {
	if all := findTexts(frame); len(all) != 0 {
		return all
	}
	if all := findAddresses(withoutNumbers(frame)); len(all) != 0 {
		return all
	}
	if m, ok := findPort(frame); ok {
		return []Mark{m}
	}
	return nil
}

func findTexts(b []byte) (all []Mark) {
	for {
		_, rest, ok := bytes.Cut(b, []byte(textPrefix))
		if !ok || len(rest) < textLen-len(textPrefix) {
			return all
		}
		run, err := strconv.Atoi(string(rest[:2]))
		n, err2 := strconv.Atoi(string(rest[3:6]))
		if err == nil && err2 == nil {
			all = append(all, Mark{run, n})
		}
		b = rest
	}
}

// findAddresses looks anywhere: headers may be within each other, and a report
// of groups lists many.
func findAddresses(b []byte) (all []Mark) {
	for i := range len(b) - 3 {
		if b[i] != markNet1 && b[i] != groupNet || b[i+1] != markNet2 {
			continue
		}
		if m, ok := fromBits(int(b[i+2])<<8 | int(b[i+3])); ok {
			all = append(all, m)
		}
	}
	return all
}

const (
	etherSize, headSize4, headSize6 = 14, 20, 40
	tcpSize                         = 20
)

// transport is the protocol of a frame's packet, and what is behind its IP header.
func transport(frame []byte) (proto byte, rest []byte) {
	if len(frame) < etherSize+headSize4 {
		return 0, nil
	}
	ip := frame[etherSize:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		return ip[9], ip[min(len(ip), int(ip[0]&15)*4):]
	case unix.ETH_P_IPV6:
		return ip[6], ip[min(len(ip), headSize6):]
	}
	return 0, nil
}

// withoutNumbers leaves a segment's header out: its numbers are as good as random, so
// that now and then they look like an address.
func withoutNumbers(frame []byte) []byte {
	proto, rest := transport(frame)
	if proto != unix.IPPROTO_TCP || len(rest) < tcpSize {
		return frame
	}
	head := len(frame) - len(rest)
	return slices.Concat(frame[:head], rest[min(len(rest), int(rest[12]>>4)*4):])
}

// findPort reads the destination port of TCP and UDP.
func findPort(frame []byte) (m Mark, ok bool) {
	proto, rest := transport(frame)
	if proto != unix.IPPROTO_TCP && proto != unix.IPPROTO_UDP || len(rest) < 4 {
		return m, false
	}
	return fromBits(int(binary.BigEndian.Uint16(rest[2:])) - markPorts)
}
