package e2e

// Why a way is open.
const (
	byDesign   = "by design: the policy's implicit rules let it"
	notOurs    = "the socket is another's, made and connected outside the container"
	needsAdmin = "with NET_ADMIN the container's network is its own"
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

	"admin neighbour entry": needsAdmin,
}

// openIn tells whether a blocked container has the way, and why.
func openIn(h *hostile, way string) (reason string, open bool) {
	reason, open = openWays[way]
	if h.noDNS && dnsWays[way] {
		open = false
	}
	return reason, open
}
