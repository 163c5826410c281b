package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gaissmai/bart"
)

// index answers for a Table; it is built on first use.
type index struct {
	once     sync.Once
	prefixes bart.Table[int32]
	ports    map[portSet][]span
}

type portSet struct {
	set   uint32
	proto Proto
}

// Match answers as the kernel does: the longest matching prefix, then, if it
// has a set, the longest matching block of ports. The table must not change
// after the first call; calls may run in parallel.
func (t *Table) Match(dst netip.Addr, proto Proto, port uint16) Match {
	t.index.once.Do(t.build)
	i, ok := t.index.prefixes.Lookup(Canonical(dst))
	if !ok {
		return Match{}
	}
	e := &t.Prefixes[i]
	if e.Set == 0 {
		return e.Match
	}
	spans := t.index.ports[portSet{e.Set, proto}]
	n, ok := slices.BinarySearchFunc(spans, port, func(s span, port uint16) int { return cmp.Compare(s.first, port) })
	if !ok {
		n--
	}
	if n >= 0 && port <= spans[n].last {
		return spans[n].Match
	}
	return e.Match
}

// build turns the blocks of ports, which may nest in a table made by hand,
// into spans that do not.
func (t *Table) build() {
	for i, e := range t.Prefixes {
		t.index.prefixes.Insert(e.Prefix, int32(i))
	}
	t.index.ports = map[portSet][]span{}
	for _, e := range t.Ports {
		k := portSet{e.Set, e.Proto}
		// A longer block has a smaller number here, and so wins its ports.
		s := span{e.Proto, e.Port, e.Port | uint16(1<<(16-e.Bits)-1), e.Match}
		t.index.ports[k] = append(t.index.ports[k], s)
	}
	for k, spans := range t.index.ports {
		t.index.ports[k] = longest(spans)
	}
}

// longest lets the shortest of nested spans win.
func longest(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(b.last, a.last))
	})
	var out, open []span
	next := 0
	closeUntil := func(end int) {
		for len(open) > 0 {
			s := open[len(open)-1]
			last := min(int(s.last), end)
			if next <= last {
				out = append(out, span{s.proto, uint16(next), uint16(last), s.Match})
				next = last + 1
			}
			if int(s.last) > end {
				return
			}
			open = open[:len(open)-1]
		}
	}
	for _, s := range spans {
		closeUntil(int(s.first) - 1)
		next = int(s.first)
		open = append(open, s)
	}
	closeUntil(65535)
	return out
}

// JudgeRules is the plain reading of the rules, one by one: what Compile and
// Match must agree with.
func JudgeRules(rules []Rule, dst netip.Addr, proto Proto, port uint16, now time.Time) Match {
	dst = Canonical(dst)
	var best *Rule
	for i := range rules {
		r := &rules[i]
		if r.ExpiredAt(now) || !r.Prefix.Contains(dst) || !r.matches(proto, port) {
			continue
		}
		if best == nil || r.beats(best) {
			best = r
		}
	}
	if best == nil {
		return Match{}
	}
	return Match{best.Action, best.Number()}
}

func (r *Rule) matches(proto Proto, port uint16) bool {
	return len(r.Ports) == 0 || slices.ContainsFunc(r.Ports, func(p PortRange) bool {
		return p.Proto == proto && p.First <= port && port <= p.Last
	})
}

// beats tells which of two rules that match decides.
func (r *Rule) beats(o *Rule) bool {
	return cmp.Or(cmp.Compare(o.Action, r.Action), cmp.Compare(o.Prefix.Bits(), r.Prefix.Bits()),
		cmp.Compare(r.Number(), o.Number())) < 0
}
