package bpf

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"

	"github.com/egresswarden/egresswarden/policy"
)

// encoded is a table in the form of the kernel's tries.
type encoded struct {
	v4     []gateLpmV4
	v4To   []gatePrefixValue
	v6     []gateLpmV6
	v6To   []gatePrefixValue
	ports  []gateLpmPorts
	portTo []gatePortValue
}

func encode(t *policy.Table) (*encoded, error) {
	e := &encoded{}
	for _, p := range t.Prefixes {
		if !p.Prefix.IsValid() {
			return nil, fmt.Errorf("encode table: invalid prefix")
		}
		value := gatePrefixValue{Rule: p.Rule, Action: uint32(p.Action), Set: p.Set}
		length := uint32(p.Prefix.Bits())
		if p.Prefix.Addr().Is4() {
			a := p.Prefix.Addr().As4()
			e.v4 = append(e.v4, gateLpmV4{Bits: length, Addr: binary.NativeEndian.Uint32(a[:])})
			e.v4To = append(e.v4To, value)
			continue
		}
		e.v6 = append(e.v6, gateLpmV6{Bits: length, Addr: words(p.Prefix.Addr().As16())})
		e.v6To = append(e.v6To, value)
	}
	for _, p := range t.Ports {
		if p.Set == 0 || p.Bits > 16 {
			return nil, fmt.Errorf("encode table: port entry of set %d with %d bits", p.Set, p.Bits)
		}
		e.ports = append(e.ports, gateLpmPorts{
			// A set and a protocol, then the leading bits of the port.
			Bits: 32 + 8 + uint32(p.Bits), Set: bits.ReverseBytes32(p.Set), Proto: uint8(p.Proto),
			Port: [2]uint8{uint8(p.Port >> 8), uint8(p.Port)},
		})
		e.portTo = append(e.portTo, gatePortValue{Rule: p.Rule, Action: uint32(p.Action)})
	}
	return e, nil
}

// words are the four words of an address, each in network order.
func words(a [16]byte) (w [4]uint32) {
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(a[4*i:])
	}
	return w
}

// address undoes words, and gives IPv4 its own form.
func address(w [4]uint32) netip.Addr {
	var a [16]byte
	for i := range w {
		binary.NativeEndian.PutUint32(a[4*i:], w[i])
	}
	return netip.AddrFrom16(a).Unmap()
}
