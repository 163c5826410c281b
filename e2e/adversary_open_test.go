package e2e

import "testing"

// Why a way is open.
const (
	byDesign   = "by design: the policy's implicit rules let it"
	notOurs    = "the socket is another's, made and connected outside the container"
	needsRaw   = "packet sockets are not judged: cap_drop NET_RAW"
	madeBefore = "a packet socket that was made before goes on: restart the container"
	needsAdmin = "with NET_ADMIN the container's network is its own"
	notJudged  = "not judged"
)

// dnsWays go by Docker's resolver, which the label egress.dns=deny closes.
var dnsWays = map[string]bool{"dns resolver udp": true, "dns resolver tcp": true}

// openWays are those that a blocked container still has, and why.
var openWays = map[string]string{
	"reply udp":                 byDesign,
	"reply tcp":                 byDesign,
	"dns resolver udp":          byDesign,
	"dns resolver tcp":          byDesign,
	"handed raw":                notOurs,
	"handed connected stream":   notOurs,
	"handed connected datagram": notOurs,

	"igmp join":   notJudged,
	"igmp source": notJudged,
	"mld join":    notJudged,

	"packet raw": needsRaw, "packet dgram": needsRaw, "packet vnet": needsRaw, "packet ring": needsRaw,
	"packet old": needsRaw, "packet type": needsRaw, "packet neighbour": needsRaw, "packet arp": needsRaw,
	"forged echo by packet socket": needsRaw, "forged syn by packet socket": needsRaw,
	"forged datagram by packet socket": needsRaw, "transit by lo": needsRaw,

	"admin neighbour entry": needsAdmin, "admin vxlan": needsAdmin,
	"admin ipip": needsAdmin, "admin gre": needsAdmin,
	"admin tun": needsAdmin,

	"standing packet": madeBefore,
}

// openIn tells whether a blocked container has the way, and why.
func openIn(h *hostile, way string, refusesPackets bool) (reason string, open bool) {
	reason, open = openWays[way]
	switch {
	case h.noDNS && dnsWays[way], refusesPackets && reason == needsRaw:
		open = false
	}
	return reason, open
}

func TestPacketSocketsAreClosedWhereTheGateRefusesThem(t *testing.T) {
	for way, want := range map[string][2]bool{
		"packet raw": {true, false}, "standing packet": {true, true}, "reply udp": {true, true}, "tcp": {},
	} {
		for i, refuses := range []bool{false, true} {
			if _, open := openIn(&hostile{}, way, refuses); open != want[i] {
				t.Errorf("%s, packet sockets refused %v: open %v", way, refuses, open)
			}
		}
	}
}
