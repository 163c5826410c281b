package learner

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// wish is a destination that no rule decides.
type wish struct {
	dest
	*sightings
}

// undecided are the destinations of a policy that none of its rules decides,
// sorted.
func (l *Learner) undecided(name string, now time.Time) ([]wish, error) {
	d := l.evidence.policies[name]
	if d == nil {
		return nil, nil
	}
	table, err := policy.Compile(l.state.Effective(name, now).Rules, now)
	if err != nil {
		return nil, err
	}
	var out []wish
	for to, s := range d.dests {
		if table.Match(to.addr, to.proto, to.port).Action == policy.ActionNone {
			out = append(out, wish{to, s})
		}
	}
	slices.SortFunc(out, func(a, b wish) int { return compareDest(a.dest, b.dest) })
	return out, nil
}

// suggestion is a rule with the wishes that it would grant.
type suggestion struct {
	prefix netip.Prefix
	ports  []policy.PortRange
	wishes []wish
	wide   bool
}

// suggest makes the proposals to add rules that a policy should have open.
func (l *Learner) suggest(name string, now time.Time) ([]*schemas.Proposal, error) {
	wishes, err := l.undecided(name, now)
	if err != nil {
		return nil, err
	}
	if wishes, err = l.unsettled(name, wishes, now); err != nil {
		return nil, err
	}
	if len(wishes) == 0 {
		return nil, nil
	}
	quiet, err := l.rejections(name)
	if err != nil {
		return nil, err
	}
	wishes = quiet.silence(wishes, l.evidence.names)
	t := tailor{l.options, slices.Concat(l.denies(name, now), quiet.silent)}
	var out []*schemas.Proposal
	for _, s := range t.cut(wishes) {
		r, err := policy.NewRule(policy.ActionAllow, s.prefix, s.ports)
		if err != nil {
			return nil, err
		}
		r.Origin = policy.OriginProposal
		out = append(out, l.proposal(name, s, r, quiet, now))
	}
	slices.SortFunc(out, func(a, b *schemas.Proposal) int {
		return cmp.Or(cmp.Compare(b.Rules[0].Denied, a.Rules[0].Denied), cmp.Compare(a.Rules[0].Rule.Text, b.Rules[0].Rule.Text))
	})
	return out[:min(len(out), l.options.Limits.Open)], nil
}

func (l *Learner) denies(name string, now time.Time) []policy.Rule {
	return slices.DeleteFunc(l.state.Effective(name, now).Rules, func(r policy.Rule) bool {
		return r.Action != policy.ActionDeny
	})
}

func (l *Learner) proposal(name string, s suggestion, r policy.Rule, quiet *rejections, now time.Time) *schemas.Proposal {
	e := l.sum(s, now)
	e.Rule = r.Wire()
	title := fmt.Sprintf("allow %s: %s since %s", r, denials(e.Denied, s.blocked()), unix(e.FirstSeenNs).Format("2006-01-02 15:04"))
	if len(e.Processes) > 0 {
		title += " by " + strings.Join(e.Processes, ", ")
	}
	if old, ok := quiet.of(s.wishes); ok {
		e.Flags = append(e.Flags, "rejected_before")
		title += fmt.Sprintf(" (rejected at revision %d, the evidence has grown since)", old.revision)
	}
	return &schemas.Proposal{Action: "add", Rules: []*schemas.ProposedRule{e}, Revision: l.state.Policy(name).Revision,
		Title: title, Evidence: fingerprint(e, s.blocked() > 0)}
}

// blocked is how many decisions were refused in fact.
func (s suggestion) blocked() uint64 {
	n := uint64(0)
	for _, w := range s.wishes {
		n += uint64(w.blocked)
	}
	return n
}

// denials says how many decisions were denied, and how many would be.
func denials(denied, blocked uint64) string {
	times := func(n uint64) string {
		if n == 1 {
			return "once"
		}
		return fmt.Sprintf("%d times", n)
	}
	switch {
	case blocked == 0:
		return "would be denied " + times(denied)
	case blocked >= denied:
		return "denied " + times(denied)
	}
	return fmt.Sprintf("denied %s and would be denied %s", times(blocked), times(denied-blocked))
}

// sum adds the evidence of a suggestion up.
func (l *Learner) sum(s suggestion, now time.Time) *schemas.ProposedRule {
	e := &schemas.ProposedRule{AddressesAdmitted: size(s.prefix)}
	addrs := map[netip.Addr]bool{}
	for _, w := range s.wishes {
		addrs[w.addr] = true
		e.Count += w.count
		e.Denied += w.denied
		if e.FirstSeenNs == 0 || w.firstNs < e.FirstSeenNs {
			e.FirstSeenNs = w.firstNs
		}
		e.LastSeenNs = max(e.LastSeenNs, w.lastNs)
		if len(e.Processes) < 8 {
			e.Processes = l.evidence.names.add(e.Processes, w.comms[:])
		}
		if len(e.Hosts) < 8 {
			e.Hosts = l.evidence.names.add(e.Hosts, w.hosts[:])
		}
		if len(e.Destinations) < 16 {
			e.Destinations = append(e.Destinations, w.String())
		}
	}
	e.AddressesSeen = uint64(len(addrs))
	slices.Sort(e.Processes)
	slices.Sort(e.Hosts)
	e.Flags = flags(s, e, now)
	return e
}

// String is such as tcp://192.0.2.1:443.
func (d dest) String() string {
	if d.proto != policy.ProtoTCP && d.proto != policy.ProtoUDP {
		return d.proto.String() + "://" + d.addr.String()
	}
	return d.proto.String() + "://" + netip.AddrPortFrom(d.addr, d.port).String()
}

func size(p netip.Prefix) uint64 {
	open := p.Addr().BitLen() - p.Bits()
	if open > 63 {
		return math.MaxUint64
	}
	return 1 << open
}

// fingerprint names the evidence as far as it matters to who decides: it
// changes when the numbers have grown by a factor, not with each event.
func fingerprint(e *schemas.ProposedRule, blocked bool) string {
	parts := []string{e.Rule.Text, strings.Join(e.Processes, "\x00"), strings.Join(e.Hosts, "\x00"), strings.Join(e.Flags, " "),
		fmt.Sprint(bits.Len64(e.Denied)/3, bits.Len64(e.AddressesSeen))}
	if blocked {
		parts = append(parts, "blocked")
	}
	return digest(16, parts...)
}

func digest(n int, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))[:n]
}

// tailor makes rules from wishes.
type tailor struct {
	options   Options
	forbidden []policy.Rule
}

// cut covers the wishes, which are sorted, with suggestions.
func (t tailor) cut(wishes []wish) []suggestion {
	narrow, out := t.wide(wishes)
	type service struct {
		proto policy.Proto
		port  uint16
		v4    bool
	}
	services := map[service][]wish{}
	for _, w := range narrow {
		k := service{w.proto, w.port, w.addr.Is4()}
		services[k] = append(services[k], w)
	}
	byPrefix := map[netip.Prefix]*suggestion{}
	for k, ws := range services {
		c := coverer{t.options.RuleCost, t.options.Cap4, t.options.Cap6, t.barrier(k.proto, k.port)}
		in := make([]seen, len(ws))
		for i, w := range ws {
			in[i] = seen{w.addr, w.lastNs-w.firstNs >= int64(t.options.Solid), special(w.addr) != ""}
		}
		for _, p := range c.cover(in) {
			s := byPrefix[p]
			if s == nil {
				s = &suggestion{prefix: p}
				byPrefix[p] = s
			}
			s.ports = append(s.ports, portRange(k.proto, k.port, k.port))
			for len(ws) > 0 && p.Contains(ws[0].addr) {
				s.wishes, ws = append(s.wishes, ws[0]), ws[1:]
			}
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(byPrefix), netip.Prefix.Compare) {
		s := byPrefix[p]
		slices.SortFunc(s.wishes, func(a, b wish) int { return compareDest(a.dest, b.dest) })
		out = append(out, *s)
	}
	return out
}

func portRange(p policy.Proto, first, last uint16) policy.PortRange {
	if p != policy.ProtoTCP && p != policy.ProtoUDP {
		first, last = 0, 65535
	}
	return policy.PortRange{Proto: p, First: first, Last: last}
}

// wide takes out the addresses asked on many ports of a protocol.
func (t tailor) wide(wishes []wish) (narrow []wish, out []suggestion) {
	for len(wishes) > 0 {
		n := 1
		for n < len(wishes) && wishes[n].addr == wishes[0].addr && wishes[n].proto == wishes[0].proto {
			n++
		}
		ws := wishes[:n]
		wishes = wishes[n:]
		if n <= t.options.Limits.WidePorts {
			narrow = append(narrow, ws...)
			continue
		}
		first := ws[0]
		s := suggestion{prefix: netip.PrefixFrom(first.addr, first.addr.BitLen()), wishes: ws, wide: true}
		r := portRange(first.proto, first.port, ws[n-1].port)
		if t.free(first.addr, r) {
			s.ports = []policy.PortRange{r}
		} else {
			for _, w := range ws {
				s.ports = append(s.ports, portRange(w.proto, w.port, w.port))
			}
		}
		out = append(out, s)
	}
	return narrow, out
}

// free tells whether no forbidding rule has a port of the range.
func (t tailor) free(a netip.Addr, r policy.PortRange) bool {
	return !slices.ContainsFunc(t.forbidden, func(f policy.Rule) bool {
		return f.Prefix.Contains(a) && (len(f.Ports) == 0 || slices.ContainsFunc(f.Ports, func(p policy.PortRange) bool {
			return p.Proto == r.Proto && p.First <= r.Last && r.First <= p.Last
		}))
	})
}
