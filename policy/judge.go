package policy

import "net/netip"

// Request is a decision to be made.
type Request struct {
	Dst   netip.Addr
	Proto Proto
	Port  uint16
	// HostNetwork: the container shares the host's network, so loopback is
	// judged like any destination, 127.0.0.11 too: no resolver of Docker's is
	// there.
	HostNetwork bool
	// NoDNS: the label egress.dns=deny.
	NoDNS bool
	// Reply: a UDP datagram to a peer that wrote first a short while ago.
	Reply bool
}

var resolver = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// Judge decides as the kernel's decide() does, implicit rules included. The
// verdict is VerdictNone for what is allowed without being counted: mode
// allow, and loopback within the container's own network. A nil table is a
// policy without rules.
func Judge(t *Table, mode Mode, q Request) (Verdict, Match) {
	if mode == ModeAllow {
		return VerdictNone, Match{}
	}
	dst := Canonical(q.Dst)
	if q.Proto != ProtoTCP && q.Proto != ProtoUDP {
		q.Port = 0
	}
	var m Match
	switch {
	case dst == resolver && !q.HostNetwork:
		m = Match{ActionAllow, RuleResolver}
		if q.NoDNS {
			m.Action = ActionDeny
		}
	case !q.HostNetwork && IsLocal(dst):
		return VerdictNone, Match{}
	default:
		if t != nil {
			m = t.Match(dst, q.Proto, q.Port)
		}
		if m.Action != ActionAllow && q.Reply && q.Proto == ProtoUDP {
			m = Match{ActionAllow, RuleReply}
		}
	}
	switch {
	case m.Action == ActionAllow:
		return VerdictAllow, m
	case mode == ModeLearn:
		return VerdictWouldDeny, m
	}
	return VerdictDeny, m
}

// IsLocal tells of a canonical address that it cannot leave the container's
// network namespace: loopback, but not Docker's resolver, and the unspecified
// addresses, which mean loopback.
func IsLocal(dst netip.Addr) bool {
	return (dst.IsLoopback() || dst.IsUnspecified()) && dst != resolver
}
