package learner

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// bruteForce tries every way to cut the addresses from the i-th on into groups
// whose prefixes hold no address of another group.
func bruteForce(c coverer, in []seen, i int) float64 {
	if i == len(in) {
		return 0
	}
	best := math.Inf(1)
	for end := i + 1; end <= len(in); end++ {
		cost := c.ruleCost
		if end > i+1 {
			bits := common(in[i].addr, in[end-1].addr)
			if end < len(in) && common(in[i].addr, in[end].addr) >= bits || i > 0 && common(in[i-1].addr, in[i].addr) >= bits {
				continue
			}
			var ok bool
			if cost, ok = c.whole(in[i:end], bits); !ok {
				continue
			}
		}
		best = min(best, cost+bruteForce(c, in, end))
	}
	return best
}

func TestCoverIsTheCheapest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := coverer{ruleCost: float64(rapid.IntRange(1, 20).Draw(t, "cost")), cap4: rapid.IntRange(20, 28).Draw(t, "cap"), cap6: 64}
		if no := rapid.IntRange(0, 255).Draw(t, "forbidden"); no > 0 {
			c.forbidden = func(p netip.Prefix) bool { return p.Contains(netip.AddrFrom4([4]byte{192, 0, 2, byte(no)})) }
		}
		addrs := map[netip.Addr]bool{}
		for range rapid.IntRange(1, 14).Draw(t, "n") {
			host := rapid.IntRange(0, 1<<rapid.IntRange(1, 10).Draw(t, "bits")-1).Draw(t, "host")
			addrs[netip.AddrFrom4([4]byte{192, 0, byte(2 + host>>8), byte(host)})] = true
		}
		var in []seen
		for _, a := range slices.SortedFunc(maps.Keys(addrs), netip.Addr.Compare) {
			in = append(in, seen{a, rapid.Bool().Draw(t, "solid"), rapid.IntRange(0, 9).Draw(t, "fixed") == 0})
		}
		prefixes, cost := c.best(in, nil)
		if want := bruteForce(c, in, 0); cost != want {
			t.Fatalf("cost %v, want %v: %v for %v", cost, want, prefixes, in)
		}
		i := 0
		for _, p := range prefixes {
			n := i
			for i < len(in) && p.Contains(in[i].addr) {
				i++
			}
			if i == n {
				t.Fatalf("%s covers nothing", p)
			}
		}
		if i != len(in) {
			t.Fatalf("%v leave %v", prefixes, in[i:])
		}
	})
}

func BenchmarkCover(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		in := make([]seen, n)
		for i := range in {
			v := uint32(i) * 40_503
			in[i] = seen{addr: netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), solid: true}
		}
		slices.SortFunc(in, func(a, b seen) int { return a.addr.Compare(b.addr) })
		c := coverer{ruleCost: 12, cap4: 24, cap6: 64}
		b.Run(fmt.Sprint("n=", n), func(b *testing.B) {
			for b.Loop() {
				c.cover(in)
			}
		})
	}
}
