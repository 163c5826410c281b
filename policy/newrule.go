package policy

import (
	"fmt"
	"net/netip"
	"strconv"
)

// NewRule makes a rule in its one canonical form and gives it its ID. A prefix
// with host bits is refused, and so is one whose meaning would surprise: the
// gate judges IPv4-mapped and IPv4-compatible IPv6 as IPv4, so a mapped prefix
// becomes IPv4, and all of ::ffff:0:0/96 or part of ::/96 must be written so.
func NewRule(action Action, prefix netip.Prefix, ports []PortRange) (Rule, error) {
	if action != ActionAllow && action != ActionDeny {
		return Rule{}, fmt.Errorf("rule for %s: action is neither allow nor deny", prefix)
	}
	prefix, err := canonicalPrefix(prefix)
	if err != nil {
		return Rule{}, err
	}
	for i, p := range ports {
		if p.First > p.Last {
			return Rule{}, fmt.Errorf("rule for %s: ports %d-%d fall", prefix, p.First, p.Last)
		}
		known, err := ParseProto(p.Proto.String())
		if err != nil || known != p.Proto {
			return Rule{}, fmt.Errorf("rule for %s: protocol %d has no name in rules, use other", prefix, p.Proto)
		}
		if p.Proto != ProtoTCP && p.Proto != ProtoUDP && (p.First != 0 || p.Last != 65535) {
			return Rule{}, fmt.Errorf("rule for %s: %s (range %d of the rule) has no ports", prefix, p.Proto, i+1)
		}
	}
	r := Rule{Action: action, Prefix: prefix, Ports: mergePorts(ports)}
	r.ID = ruleID(hashNumber(r.canonical()))
	return r, nil
}

func canonicalPrefix(p netip.Prefix) (netip.Prefix, error) {
	if !p.IsValid() || p.Addr().Zone() != "" {
		return p, fmt.Errorf("%s is no CIDR", p)
	}
	if m := p.Masked(); m != p {
		return p, fmt.Errorf("%s has host bits set: write %s, or %s for the one address", p, m, p.Addr())
	}
	a := p.Addr()
	if p.Bits() < 96 || a.Is4() {
		return p, nil
	}
	if a.Is4In6() {
		if p.Bits() == 96 {
			return p, fmt.Errorf("%s is all of IPv4: write 0.0.0.0/0", p)
		}
		return netip.PrefixFrom(a.Unmap(), p.Bits()-96), nil
	}
	compatible := netip.PrefixFrom(netip.IPv6Unspecified(), 96)
	if compatible.Contains(a) && (p.Bits() < 127 || Canonical(a).Is4()) {
		return p, fmt.Errorf("%s is IPv4-compatible and judged as IPv4: write it as IPv4", p)
	}
	return p, nil
}

// Canonical is the address that is judged: IPv4 for IPv4-mapped and
// IPv4-compatible IPv6 (but :: and ::1), without a zone.
func Canonical(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	b := a.As16()
	for _, x := range b[:12] {
		if x != 0 {
			return a
		}
	}
	if b[12] == 0 && b[13] == 0 && b[14] == 0 && b[15] <= 1 {
		return a
	}
	return netip.AddrFrom4([4]byte(b[12:]))
}

// Number is what the kernel reports when the rule decides: the ID as a number,
// RuleNone when there is no valid one.
func (r Rule) Number() uint32 {
	n, err := strconv.ParseUint(r.ID, 16, 32)
	if err != nil {
		return RuleNone
	}
	return uint32(n)
}

func ruleID(n uint32) string { return fmt.Sprintf("%08x", n) }

// hashNumber is the 32-bit FNV-1a hash, lifted over the reserved numbers.
func hashNumber(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	if h < RuleReserved {
		h += RuleReserved
	}
	return h
}

// Distinguish gives different rules different IDs: of 50,000 rules two share
// the same hash with a probability of a quarter. The earlier rule keeps its
// ID, a later one hashes its text with a growing suffix until it is alone. The
// same rule twice keeps the same ID. Verdicts never depend on IDs; telling
// which rule decided does.
func Distinguish(rules []Rule) {
	n := newNames()
	for i := range rules {
		rules[i] = n.hold(rules[i])
	}
}

// firstID is the ID for a text that is not taken.
func firstID(text string, taken func(id string) bool) string {
	id := ruleID(hashNumber(text))
	for i := 1; taken(id); i++ {
		id = ruleID(hashNumber(text + "~" + strconv.Itoa(i)))
	}
	return id
}
