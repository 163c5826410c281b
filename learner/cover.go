package learner

import (
	"net/netip"
	"sort"
)

// seen is an address to cover.
type seen struct {
	addr netip.Addr
	// solid addresses were seen long enough to support widening.
	solid bool
	// fixed addresses are never covered together with an unseen one.
	fixed bool
}

// coverer finds the cheapest cover, see the package's description.
type coverer struct {
	ruleCost   float64
	cap4, cap6 int
	// forbidden tells of a prefix that must not be proposed.
	forbidden func(netip.Prefix) bool
}

// cover gives the cheapest prefixes for addresses of one family that are
// sorted and different.
func (c coverer) cover(in []seen) []netip.Prefix {
	if len(in) == 0 {
		return nil
	}
	out, _ := c.best(in, nil)
	return out
}

// best appends the cheapest cover of in to out.
func (c coverer) best(in []seen, out []netip.Prefix) ([]netip.Prefix, float64) {
	first := in[0].addr
	if len(in) == 1 {
		return append(out, netip.PrefixFrom(first, first.BitLen())), c.ruleCost
	}
	bits := common(first, in[len(in)-1].addr)
	middle := sort.Search(len(in), func(i int) bool { return common(first, in[i].addr) == bits })
	n := len(out)
	out, low := c.best(in[:middle], out)
	out, high := c.best(in[middle:], out)
	if whole, ok := c.whole(in, bits); ok && whole < low+high {
		p, err := first.Prefix(bits)
		if err == nil {
			return append(out[:n], p), whole
		}
	}
	return out, low + high
}

// whole is the cost of the one prefix of in, if it may be proposed.
func (c coverer) whole(in []seen, bits int) (float64, bool) {
	first := in[0].addr
	open := first.BitLen() - bits
	if first.Is4() && bits < c.cap4 || first.Is6() && bits < c.cap6 {
		return 0, false
	}
	exact := open < 32 && len(in) == 1<<open
	if !exact && !supports(in) {
		return 0, false
	}
	p, err := first.Prefix(bits)
	if err != nil || c.forbidden != nil && c.forbidden(p) {
		return 0, false
	}
	switch {
	case exact:
		return c.ruleCost, true
	case first.Is4():
		return c.ruleCost + float64(int(1)<<open-len(in)), true
	}
	return c.ruleCost + c.ruleCost*float64(open)/8, true
}

// supports tells whether the addresses justify admitting others.
func supports(in []seen) bool {
	solid := 0
	for _, s := range in {
		if s.fixed {
			return false
		}
		if s.solid {
			solid++
		}
	}
	return 2*solid >= len(in)
}

// common is the number of leading bits that two addresses share.
func common(a, b netip.Addr) int {
	x, y := a.AsSlice(), b.AsSlice()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			n := 8 * i
			for d&0x80 == 0 {
				d <<= 1
				n++
			}
			return n
		}
	}
	return 8 * len(x)
}
