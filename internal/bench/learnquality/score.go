package learnquality

import (
	"net/netip"
	"time"

	"github.com/egresswarden/egresswarden/policy"
)

// Score tells how good rules are.
type Score struct {
	Rules int
	// FalseDenials of Decisions of the later traffic.
	FalseDenials, Decisions int
	// Unused IPv4 addresses are admitted and never legitimately used.
	Unused uint64
	// Attacker addresses are admitted.
	Attacker int
}

// Add sums scores up.
func (s *Score) Add(o Score) {
	s.Rules += o.Rules
	s.FalseDenials += o.FalseDenials
	s.Decisions += o.Decisions
	s.Unused += o.Unused
	s.Attacker += o.Attacker
}

// Rate scores the rules of a method on traffic.
func Rate(m Method, t Traffic) (Score, error) {
	rules, err := m.Rules(t.Learning)
	if err != nil {
		return Score{}, err
	}
	table, err := policy.Compile(rules, time.Time{})
	if err != nil {
		return Score{}, err
	}
	s := Score{Rules: len(rules), Decisions: len(t.Later)}
	for _, f := range t.Later {
		a, _ := netip.AddrFromSlice(f.DstIp)
		if table.Match(a, policy.Proto(f.Proto), uint16(f.DstPort)).Action != policy.ActionAllow {
			s.FalseDenials++
		}
	}
	for a := range t.Attacked {
		if t.Legitimate[a] {
			continue
		}
		for _, port := range []uint16{22, 443} {
			if table.Match(a, policy.ProtoTCP, port).Action == policy.ActionAllow {
				s.Attacker++
				break
			}
		}
	}
	s.Unused = unused(rules, t.Legitimate)
	return s, nil
}

func unused(rules []policy.Rule, used map[netip.Addr]bool) uint64 {
	admitted := map[netip.Addr]bool{}
	for _, r := range rules {
		if !r.Prefix.Addr().Is4() {
			continue
		}
		for a := r.Prefix.Addr(); r.Prefix.Contains(a); a = a.Next() {
			admitted[a] = true
		}
	}
	var n uint64
	for a := range admitted {
		if !used[a] {
			n++
		}
	}
	return n
}
