package policy

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// ErrTooLarge is returned by Compile for rules whose flattened ports exceed
// MaxPortEntries.
var ErrTooLarge = errors.New("policy too large")

// MaxPortEntries bounds the ports of a table: flattening copies the ports of a
// broad prefix to each narrower one with rules of its own, so that a hostile
// file could ask for billions.
const MaxPortEntries = 4 << 20

// maxSpans bounds the work likewise, where the flattened ports are equal and
// so stored once.
const maxSpans = 64 << 20

// Compile flattens rules to a table in which the longest matching prefix gives
// the exact answer, though rules overlap: an entry carries the rules of all
// prefixes that cover it. Rules that have expired at now are left out. Where a
// deny rule matches, the most specific one decides; otherwise the most
// specific allow rule; among rules of one prefix the smallest number.
//
// The cost is O(n log n) for n rules, and the size of the answers: a prefix
// with ports repeats the port ranges of those that cover it.
func Compile(rules []Rule, now time.Time) (*Table, error) {
	sorted := make([]*Rule, 0, len(rules))
	for i := range rules {
		if rules[i].ExpiredAt(now) {
			continue
		}
		if err := rules[i].check(); err != nil {
			return nil, fmt.Errorf("compile rule %s: %w", rules[i].ID, err)
		}
		sorted = append(sorted, &rules[i])
	}
	slices.SortFunc(sorted, compareRules)
	c := compiler{table: &Table{}, sets: map[string]uint32{}}
	for len(sorted) > 0 {
		n := 1
		for n < len(sorted) && sorted[n].Prefix == sorted[0].Prefix {
			n++
		}
		if err := c.prefix(sorted[0].Prefix, sorted[:n]); err != nil {
			return nil, err
		}
		sorted = sorted[n:]
	}
	return c.table, nil
}

// ExpiredAt tells whether the rule has ended.
func (r Rule) ExpiredAt(now time.Time) bool {
	return !r.Expires.IsZero() && !r.Expires.After(now)
}

func (r *Rule) check() error {
	if r.Action != ActionAllow && r.Action != ActionDeny {
		return fmt.Errorf("%s: no action", r.Prefix)
	}
	p, err := canonicalPrefix(r.Prefix)
	if err != nil {
		return err
	}
	if p != r.Prefix {
		return fmt.Errorf("%s: the canonical form is %s", r.Prefix, p)
	}
	if r.Number() < RuleReserved {
		return fmt.Errorf("%s: ID %q is no rule number", r.Prefix, r.ID)
	}
	return nil
}

// compareRules sorts a prefix before all that it covers, and IPv4 first.
func compareRules(a, b *Rule) int {
	x, y := a.Prefix.Addr(), b.Prefix.Addr()
	return cmp.Or(cmp.Compare(x.BitLen(), y.BitLen()), x.Compare(y), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
}

// compiler walks the prefixes in order and keeps the chain of those that cover
// the present one.
type compiler struct {
	table *Table
	sets  map[string]uint32
	chain []covering
	spans int
	key   []byte
}

type covering struct {
	prefix netip.Prefix
	answer answer
}

func (c *compiler) prefix(p netip.Prefix, rules []*Rule) error {
	for len(c.chain) > 0 && !covers(c.chain[len(c.chain)-1].prefix, p) {
		c.chain = c.chain[:len(c.chain)-1]
	}
	var above answer
	if len(c.chain) > 0 {
		above = c.chain[len(c.chain)-1].answer
	}
	own := above.with(rules)
	if c.spans += len(own.ports); c.spans > maxSpans {
		return fmt.Errorf("compile %s: ports of overlapping prefixes: %w", p, ErrTooLarge)
	}
	c.chain = append(c.chain, covering{p, own})
	if len(c.chain) > 1 && own.equal(above) || len(c.chain) == 1 && own.equal(answer{}) {
		return nil
	}
	set, err := c.set(own)
	c.table.Prefixes = append(c.table.Prefixes, PrefixEntry{Prefix: p, Match: own.all, Set: set})
	return err
}

func covers(p, q netip.Prefix) bool { return p.Bits() <= q.Bits() && p.Contains(q.Addr()) }

// set gives equal ports the same number, and writes them out when first seen.
func (c *compiler) set(a answer) (uint32, error) {
	if len(a.ports) == 0 {
		return 0, nil
	}
	c.key = a.appendKey(c.key[:0])
	if n, ok := c.sets[string(c.key)]; ok {
		return n, nil
	}
	n := uint32(len(c.sets) + 1)
	c.sets[string(c.key)] = n
	for _, s := range a.ports {
		if len(c.table.Ports) > MaxPortEntries {
			return 0, fmt.Errorf("compile: more than %d port entries: %w", MaxPortEntries, ErrTooLarge)
		}
		c.table.Ports = appendBlocks(c.table.Ports, n, s)
	}
	return n, nil
}

// appendBlocks cuts a range of ports into the fewest blocks that a prefix
// table can hold, at most 30.
func appendBlocks(out []PortEntry, set uint32, s span) []PortEntry {
	for first := int(s.first); first <= int(s.last); {
		bits := 16
		for bits > 0 {
			size := 1 << (17 - bits)
			if first%size != 0 || first+size-1 > int(s.last) {
				break
			}
			bits--
		}
		out = append(out, PortEntry{Set: set, Proto: s.proto, Port: uint16(first), Bits: uint8(bits), Match: s.Match})
		first += 1 << (16 - bits)
	}
	return out
}
