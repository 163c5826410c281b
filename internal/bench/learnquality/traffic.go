package learnquality

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// Traffic is what one workload does while learning and later.
type Traffic struct {
	Learning, Later []*schemas.Flow
	// Legitimate are the addresses of the service's own traffic at any time,
	// Attacked those that an intruder asked while learning.
	Legitimate, Attacked map[netip.Addr]bool
}

var start = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

// End is when learning ended.
var End = start.Add(7 * 24 * time.Hour)

// peer is a destination, drawn with a weight.
type peer struct {
	addr   netip.Addr
	port   uint16
	weight float64
}

type generator struct {
	rnd *rand.Rand
	out Traffic
}

// Generate makes the traffic of one workload: a few fixed peers, pools as a
// CDN has them with addresses that come up with very different frequency, and
// an intruder that sweeps a subnet and tries addresses at random. The same seed
// gives the same traffic.
func Generate(seed uint64) Traffic {
	g := &generator{rnd: rand.New(rand.NewPCG(seed, 7)),
		out: Traffic{Legitimate: map[netip.Addr]bool{}, Attacked: map[netip.Addr]bool{}}}
	peers := g.peers()
	g.out.Learning = g.requests(peers, start, 4000)
	g.out.Later = g.requests(peers, End, 4000)
	g.attack()
	return g.out
}

func (g *generator) peers() []peer {
	var out []peer
	for range 6 {
		out = append(out, peer{g.near(netip.MustParseAddr("203.0.0.0"), 16), 443, 20})
	}
	for range 4 {
		out = append(out, peer{g.near(netip.MustParseAddr("10.20.0.0"), 16), 5432, 20})
	}
	for _, pool := range []struct {
		addrs int
		base  netip.Addr
		bits  int
	}{{150, g.near(netip.MustParseAddr("198.0.0.0"), 16), 24}, {80, g.near(netip.MustParseAddr("198.64.0.0"), 16), 24},
		{30, g.near(netip.MustParseAddr("198.128.0.0"), 16), 26}, {60, netip.MustParseAddr("2001:db8:5::"), 64}} {
		base, err := pool.base.Prefix(pool.bits)
		if err != nil {
			panic(err) // the table above is wrong
		}
		for i := range pool.addrs {
			out = append(out, peer{g.near(base.Addr(), base.Addr().BitLen()-pool.bits), 443, 30 / math.Sqrt(float64(i+1)) / 5})
		}
	}
	return out
}

// near draws an address that differs in its last bits.
func (g *generator) near(a netip.Addr, bits int) netip.Addr {
	b := a.AsSlice()
	n := min(len(b), 8)
	tail := b[len(b)-n:]
	var x [8]byte
	copy(x[8-n:], tail)
	v := binary.BigEndian.Uint64(x[:])
	mask := uint64(math.MaxUint64)
	if bits < 64 {
		mask = 1<<bits - 1
	}
	binary.BigEndian.PutUint64(x[:], v&^mask|g.rnd.Uint64()&mask)
	copy(tail, x[8-n:])
	out, _ := netip.AddrFromSlice(b)
	return out
}

func (g *generator) requests(peers []peer, from time.Time, n int) []*schemas.Flow {
	var total float64
	for _, p := range peers {
		total += p.weight
	}
	out := make([]*schemas.Flow, n)
	for i := range out {
		x := g.rnd.Float64() * total
		k := 0
		for x -= peers[k].weight; x > 0 && k < len(peers)-1; x -= peers[k].weight {
			k++
		}
		g.out.Legitimate[peers[k].addr] = true
		at := from.Add(time.Duration(float64(i) / float64(n) * float64(7*24*time.Hour)))
		out[i] = flow(peers[k].addr, peers[k].port, "app", at)
	}
	return out
}

// attack adds a sweep over half a /24 and random addresses, on the last day.
func (g *generator) attack() {
	at := End.Add(-12 * time.Hour)
	sweep := g.near(netip.MustParseAddr("192.0.0.0"), 16)
	for range 120 {
		a := g.near(sweep, 8)
		g.out.Attacked[a] = true
		g.out.Learning = append(g.out.Learning, flow(a, 22, "nc", at))
	}
	for range 100 {
		a := g.near(netip.MustParseAddr("45.0.0.0"), 24)
		g.out.Attacked[a] = true
		g.out.Learning = append(g.out.Learning, flow(a, 443, "nc", at))
	}
}

func flow(a netip.Addr, port uint16, comm string, at time.Time) *schemas.Flow {
	return &schemas.Flow{TimeNs: at.UnixNano(), Host: "h", Verdict: schemas.Verdict_VERDICT_WOULD_DENY, Count: 1, Workload: "w",
		Policy: "w", Mode: schemas.Mode_MODE_LEARN, Proto: uint32(policy.ProtoTCP), DstIp: a.AsSlice(), DstPort: uint32(port),
		Comm: comm, ContainerId: "c"}
}
