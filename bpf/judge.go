package bpf

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/egresswarden/egresswarden/policy"
)

// Decision is the gate's answer. VerdictNone is what the gate lets alone: a
// container in mode allow, and loopback.
type Decision struct {
	Verdict  policy.Verdict
	Rule     uint32
	Revision uint64
}

// skbContext is the part of struct __sk_buff by which programs that are run on
// order take arguments and give results.
type skbContext struct {
	_    [2]uint32
	Mark uint32
	_    [9]uint32
	CB   [5]uint32
}

// frame is the packet that the kernel wants for such a run; nobody reads it.
var frame [64]byte

// Judge asks the kernel's own decision code, without counting.
func (g *Gate) Judge(index uint32, dst netip.Addr, proto policy.Proto, port uint16) (Decision, error) {
	if err := g.checkIndex(index); err != nil {
		return Decision{}, fmt.Errorf("judge %s: %w", dst, err)
	}
	in := skbContext{Mark: index}
	w := words(dst.As16())
	copy(in.CB[:], w[:])
	in.CB[4] = uint32(proto)<<16 | uint32(port)
	verdict, out, err := run(g.objects.Judge, &in)
	if err != nil {
		return Decision{}, fmt.Errorf("judge %s: %w", dst, err)
	}
	return decodeDecision(verdict, out), nil
}

func decodeDecision(verdict uint32, out *skbContext) Decision {
	if verdict == 0 {
		return Decision{}
	}
	return Decision{
		Verdict:  policy.Verdict(verdict),
		Rule:     out.CB[0],
		Revision: uint64(out.CB[2])<<32 | uint64(out.CB[1]),
	}
}

func run(p *ebpf.Program, in *skbContext) (uint32, *skbContext, error) {
	// The kernel writes its whole struct, which is larger than what is used.
	out := make([]byte, 1024)
	opts := &ebpf.RunOptions{Data: frame[:], Context: in, ContextOut: out}
	ret, err := p.Run(opts)
	if err != nil {
		return 0, nil, err
	}
	var res skbContext
	if _, err := binary.Decode(out, binary.NativeEndian, &res); err != nil {
		return 0, nil, err
	}
	return ret, &res, nil
}
