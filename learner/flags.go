package learner

import (
	"net/netip"
	"slices"
	"time"

	"github.com/gaissmai/bart"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// metadata are the addresses at which clouds tell secrets of a machine.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("169.254.170.2"), netip.MustParseAddr("169.254.169.253"),
	netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("192.0.0.192"), netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("fd20:ce::254"),
}

var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// special says what an address is that must not be widened around; empty for
// an ordinary one.
func special(a netip.Addr) string {
	switch {
	case slices.Contains(metadata, a):
		return "metadata"
	case a.IsLinkLocalUnicast():
		return "link_local"
	case a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "multicast"
	case a.IsPrivate() || sharedSpace.Contains(a):
		return "private"
	case a.IsLoopback() || a.IsUnspecified():
		return "loopback"
	}
	return ""
}

// flags are what someone who decides should look at twice.
func flags(s suggestion, e *schemas.ProposedRule, now time.Time) []string {
	var out []string
	if f := special(s.wishes[0].addr); f != "" {
		out = append(out, f)
	}
	if slices.ContainsFunc(s.wishes, func(w wish) bool { return w.port == 53 || w.port == 853 }) {
		out = append(out, "resolver")
	}
	if e.Count == uint64(len(s.wishes)) { // each destination once
		out = append(out, "single_sighting")
	}
	if now.Sub(unix(e.FirstSeenNs)) < time.Hour {
		out = append(out, "recent")
	}
	if s.wide {
		out = append(out, "wide_ports")
	}
	return out
}

// barrier tells which prefixes may not be proposed for a port.
func (t tailor) barrier(proto policy.Proto, port uint16) func(netip.Prefix) bool {
	var table bart.Lite
	for _, f := range t.forbidden {
		if len(f.Ports) == 0 || slices.ContainsFunc(f.Ports, func(p policy.PortRange) bool {
			return p.Proto == proto && p.First <= port && port <= p.Last
		}) {
			table.Insert(f.Prefix)
		}
	}
	return table.OverlapsPrefix
}
