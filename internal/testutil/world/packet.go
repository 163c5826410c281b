package world

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const readPause = 100 * time.Millisecond

// read counts until it is told to stop.
func (c *Capture) read() {
	defer close(c.done)
	for buf := make([]byte, 256); ; {
		select {
		case <-c.stop:
			return
		default:
		}
		n, from, err := unix.Recvfrom(c.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok || ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if k, ok := parse(buf[:n]); ok {
			c.mu.Lock()
			c.seen[k]++
			c.mu.Unlock()
		}
	}
}

// parse reads an IP packet's destination. Extension headers are not followed:
// such a packet counts with the number of its first.
func parse(b []byte) (Key, bool) {
	if len(b) == 0 {
		return Key{}, false
	}
	var k Key
	var dst netip.Addr
	var rest []byte
	switch b[0] >> 4 {
	case 4:
		if len(b) < 20 {
			return k, false
		}
		k.Proto = b[9]
		dst, _ = netip.AddrFromSlice(b[16:20])
		rest = b[min(len(b), int(b[0]&15)*4):]
	case 6:
		if len(b) < 40 {
			return k, false
		}
		k.Proto = b[6]
		dst, _ = netip.AddrFromSlice(b[24:40])
		rest = b[40:]
	default:
		return k, false // ARP
	}
	port := uint16(0)
	if hasPorts(k.Proto) && len(rest) >= 4 {
		port = binary.BigEndian.Uint16(rest[2:])
	}
	k.Dst = netip.AddrPortFrom(dst, port)
	return k, true
}

func hasPorts(proto uint8) bool {
	switch proto {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, unix.IPPROTO_UDPLITE:
		return true
	}
	return false
}

// setFilter passes what goes to the prefixes, and the markers of Sync.
func setFilter(fd int, dsts []netip.Prefix) error {
	if len(dsts) == 0 {
		return nil
	}
	marker := netip.PrefixFrom(WorldAddr4, 32)
	raw, err := bpf.Assemble(filter(append([]netip.Prefix{marker}, dsts...)))
	if err != nil {
		return err
	}
	prog := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		prog[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
}

// filter compares, for each prefix, the version and then word by word. Offsets
// count from the network header, as the socket is a SOCK_DGRAM.
func filter(dsts []netip.Prefix) []bpf.Instruction {
	var all []bpf.Instruction
	for _, p := range dsts {
		all = append(all, match(p)...)
	}
	return append(all, bpf.RetConstant{Val: 0})
}

func match(p netip.Prefix) []bpf.Instruction {
	version, off, ip := uint32(4), uint32(16), p.Addr().AsSlice()
	if p.Addr().Is6() {
		version, off = 6, 24
	}
	words := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: version},
	}
	for bits := p.Bits(); bits > 0; bits -= 32 {
		mask := ^uint32(0)
		if bits < 32 {
			mask <<= 32 - bits
		}
		words = append(words,
			bpf.LoadAbsolute{Off: off, Size: 4},
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(ip) & mask})
		off, ip = off+4, ip[4:]
	}
	words = append(words, bpf.RetConstant{Val: 1 << 16})
	// Any comparison that fails goes to the next prefix.
	for i, w := range words {
		if j, ok := w.(bpf.JumpIf); ok {
			j.SkipFalse = uint8(len(words) - 1 - i)
			words[i] = j
		}
	}
	return words
}
