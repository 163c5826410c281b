package e2e

// Why a way is open.
const (
	byDesign    = "by design: the policy's implicit rules let it"
	notOurs     = "the socket is another's, made and connected outside the container"
	needsRaw    = "raw and packet sockets are not judged: cap_drop NET_RAW"
	needsAdmin  = "with NET_ADMIN the container's network is its own"
	notJudged   = "not judged"
	stood       = "what stood before the mode changed goes on"
	callers32   = "the kernel does not show 32-bit setsockopt to programs"
	sourceRoute = "source routes are not judged"
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

	"udplite connect": notJudged,
	"ping sendto":     notJudged,
	"igmp join":       notJudged,
	"igmp source":     notJudged,
	"mld join":        notJudged,

	"source route udp":       sourceRoute,
	"source route tcp":       sourceRoute,
	"source route control":   sourceRoute,
	"routing header udp":     sourceRoute,
	"routing header tcp":     sourceRoute,
	"routing header control": sourceRoute,
	"routing header mobile":  sourceRoute,

	"32-bit source route":   callers32,
	"32-bit routing header": callers32,
	"32-bit forged peer":    callers32,

	"sctp one-to-one": notJudged, "sctp one-to-many": notJudged, "sctp connectx": notJudged,
	"dccp": notJudged, "l2tp": notJudged,

	"raw icmp": needsRaw, "raw udp": needsRaw, "raw tcp": needsRaw, "raw 253": needsRaw, "raw ipip": needsRaw,
	"raw gre": needsRaw, "raw esp": needsRaw, "raw header": needsRaw, "raw spoofed": needsRaw,
	"raw connected": needsRaw, "raw hdrincl": needsRaw, "raw igmp": needsRaw,
	"packet raw": needsRaw, "packet dgram": needsRaw, "packet bypass": needsRaw, "packet vnet": needsRaw,
	"packet ring": needsRaw, "packet old": needsRaw, "packet type": needsRaw, "packet neighbour": needsRaw,
	"packet arp": needsRaw, "xdp": needsRaw,
	"forged echo by raw socket": needsRaw, "forged echo by packet socket": needsRaw,
	"forged syn by raw socket": needsRaw, "forged syn by packet socket": needsRaw,
	"forged datagram by raw socket": needsRaw, "forged datagram by packet socket": needsRaw,
	"forged peer raw": needsRaw, "transit by lo": needsRaw,

	"admin neighbour entry": needsAdmin, "admin address": needsAdmin, "admin vxlan": needsAdmin,
	"admin ipip": needsAdmin, "admin gre": needsAdmin, "admin segment routing": needsAdmin,
	"admin ipsec": needsAdmin, "admin tun": needsAdmin,

	"standing stream": stood, "standing multipath": stood, "standing sendfile": stood, "standing splice": stood,
	"standing zero copy": stood, "standing urgent": stood, "standing datagram": stood, "standing udplite": stood,
	"standing sctp": stood, "standing raw": stood, "standing packet": stood, "standing forger": stood,
}
