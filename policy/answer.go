package policy

import (
	"cmp"
	"container/heap"
	"encoding/binary"
	"slices"
)

// span is the answer for a range of ports of one protocol.
type span struct {
	proto       Proto
	first, last uint16
	Match
}

// answer is what the rules that cover an address say: all, but where a span of
// ports says otherwise. Spans are sorted, apart, and never equal to all, so
// that equal answers have equal values.
type answer struct {
	all   Match
	ports []span
}

func (a answer) equal(b answer) bool { return a.all == b.all && slices.Equal(a.ports, b.ports) }

func (a answer) appendKey(b []byte) []byte {
	for _, s := range a.ports {
		b = append(b, byte(s.proto), byte(s.Action))
		b = binary.BigEndian.AppendUint16(b, s.first)
		b = binary.BigEndian.AppendUint16(b, s.last)
		b = binary.BigEndian.AppendUint32(b, s.Rule)
	}
	return b
}

// with is the answer below a, where the rules of one more prefix apply.
func (a answer) with(rules []*Rule) answer {
	allow, deny := winners(rules, ActionAllow), winners(rules, ActionDeny)
	out := answer{all: combine(a.all, allow.all, deny.all)}
	parts := [3][]span{a.ports, allow.ports, deny.ports}
	alls := [3]Match{a.all, allow.all, deny.all}
	if len(parts[0])+len(parts[1])+len(parts[2]) == 0 {
		return out
	}
	walk(parts, alls, func(proto Proto, first, last uint16, m [3]Match) {
		got := combine(m[0], m[1], m[2])
		if got == out.all {
			return
		}
		if n := len(out.ports); n > 0 {
			l := &out.ports[n-1]
			if l.proto == proto && l.Match == got && int(l.last)+1 == int(first) {
				l.last = last
				return
			}
		}
		out.ports = append(out.ports, span{proto, first, last, got})
	})
	return out
}

// combine decides between what the broader prefixes say and the rules of this
// one.
func combine(above, allow, deny Match) Match {
	switch {
	case deny.Action == ActionDeny:
		return deny
	case above.Action == ActionDeny:
		return above
	case allow.Action == ActionAllow:
		return allow
	}
	return above
}

// walk calls each for the longest ranges of ports in which no part changes,
// for the protocols that a part names.
func walk(parts [3][]span, alls [3]Match, each func(p Proto, first, last uint16, m [3]Match)) {
	for {
		proto, found := Proto(255), false
		for _, p := range parts {
			if len(p) > 0 {
				proto, found = min(proto, p[0].proto), true
			}
		}
		if !found {
			return
		}
		for first := 0; first <= 65535; {
			m, last := alls, 65535
			for i := range parts {
				for len(parts[i]) > 0 && parts[i][0].proto == proto && int(parts[i][0].last) < first {
					parts[i] = parts[i][1:]
				}
				if len(parts[i]) == 0 || parts[i][0].proto != proto {
					continue
				}
				if s := parts[i][0]; int(s.first) <= first {
					m[i], last = s.Match, min(last, int(s.last))
				} else {
					last = min(last, int(s.first)-1)
				}
			}
			each(proto, uint16(first), uint16(last), m)
			first = last + 1
		}
		for i := range parts {
			for len(parts[i]) > 0 && parts[i][0].proto == proto {
				parts[i] = parts[i][1:]
			}
		}
	}
}

// winners gives the ports of the rules of one prefix and action to the rule
// with the smallest number.
func winners(rules []*Rule, action Action) answer {
	var out answer
	var ranges []span
	for _, r := range rules {
		if r.Action != action {
			continue
		}
		m := Match{action, r.Number()}
		if len(r.Ports) == 0 && (out.all.Action == ActionNone || m.Rule < out.all.Rule) {
			out.all = m
		}
		for _, p := range r.Ports {
			ranges = append(ranges, span{p.Proto, p.First, p.Last, m})
		}
	}
	if out.all.Action != ActionNone {
		ranges = slices.DeleteFunc(ranges, func(s span) bool { return s.Rule >= out.all.Rule })
	}
	if len(ranges) > 1 {
		ranges = disjoint(ranges)
	}
	out.ports = ranges
	return out
}

// disjoint sweeps over ranges that may overlap, with those that are open in a
// heap by number.
func disjoint(ranges []span) []span {
	slices.SortFunc(ranges, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.first, b.first))
	})
	var out []span
	var open byNumber
	for len(ranges) > 0 || len(open) > 0 {
		if len(open) == 0 {
			open, ranges = append(open, ranges[0]), ranges[1:]
			continue
		}
		s := open[0]
		if len(ranges) > 0 && ranges[0].proto == s.proto && ranges[0].first <= s.last {
			next := ranges[0]
			ranges = ranges[1:]
			if next.Rule < s.Rule && next.first > s.first {
				out = append(out, span{s.proto, s.first, next.first - 1, s.Match})
			}
			if next.Rule < s.Rule {
				open[0].first = next.first
			}
			heap.Push(&open, next)
			continue
		}
		out = append(out, s)
		for len(open) > 0 && open[0].last <= s.last {
			heap.Pop(&open)
		}
		if len(open) > 0 {
			open[0].first = max(open[0].first, s.last+1)
		}
	}
	return out
}

// byNumber is a heap of open ranges; only the first one's start is right, the
// others start where the one before them ends.
type byNumber []span

func (h byNumber) Len() int           { return len(h) }
func (h byNumber) Less(i, j int) bool { return h[i].Rule < h[j].Rule }
func (h byNumber) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push and Pop are for container/heap.
func (h *byNumber) Push(x any) { *h = append(*h, x.(span)) }

// Pop removes the last element.
func (h *byNumber) Pop() any {
	s := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return s
}
