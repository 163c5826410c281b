package main

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"

	"github.com/egresswarden/egresswarden/policy"
)

const loopback = 127 << 24

// prefixesOf gives n prefixes inside 127.0.0.0/8 that do not overlap, of
// mixed lengths and with gaps, the same ones each time.
func prefixesOf(n int) []netip.Prefix {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	cell := 8 + bits.Len(uint(n-1)) // as long as a prefix that is one of n
	if n == 1 {
		cell = 8
	}
	out := make([]netip.Prefix, n)
	for i, at := range r.Perm(1 << (cell - 8))[:n] {
		length := min(cell+r.IntN(6), 30)
		a := loopback | uint32(at)<<(32-cell) | r.Uint32()&(1<<(32-cell)-1)
		out[i] = netip.PrefixFrom(addressOf(a), length).Masked()
	}
	return out
}

func addressOf(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, a)))
}

// walk names destinations that the prefixes allow: the i-th is the same each
// time, and few are named twice.
type walk []netip.Prefix

func (w walk) at(i uint64) [4]byte {
	r := rand.New(rand.NewPCG(2, i))
	p := w[r.IntN(len(w))]
	a := p.Addr().As4()
	host := r.Uint32() & (1<<(32-p.Bits()) - 1)
	return [4]byte(binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(a[:])|host))
}

// tableOf allows the prefixes.
func tableOf(prefixes []netip.Prefix) *policy.Table {
	t := &policy.Table{}
	for i, p := range prefixes {
		t.Prefixes = append(t.Prefixes, policy.PrefixEntry{
			Prefix: p, Match: policy.Match{Action: policy.ActionAllow, Rule: policy.RuleReserved + 1 + uint32(i)},
		})
	}
	return t
}
