package learnquality

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/egresswarden/egresswarden/learner"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// Method writes rules for the flows that were seen.
type Method struct {
	Name  string
	Rules func([]*schemas.Flow) ([]policy.Rule, error)
}

// Methods are the baselines and the learner.
func Methods() []Method {
	return []Method{
		{"exact addresses", masked(32, 128)},
		{"fixed /24 and /64", masked(24, 64)},
		{"minimal exact cover", cover},
		{"learner", learned(func(*schemas.ProposedRule) bool { return true })},
		{"learner, less single sightings", learned(func(r *schemas.ProposedRule) bool {
			return !slices.Contains(r.Flags, "single_sighting")
		})},
	}
}

// byPort has the different addresses of each port.
func byPort(flows []*schemas.Flow) map[uint16]map[netip.Addr]bool {
	out := map[uint16]map[netip.Addr]bool{}
	for _, f := range flows {
		port := uint16(f.DstPort)
		if out[port] == nil {
			out[port] = map[netip.Addr]bool{}
		}
		a, _ := netip.AddrFromSlice(f.DstIp)
		out[port][a] = true
	}
	return out
}

// rules allows prefixes, those of several ports in one rule.
func rules(prefixes map[netip.Prefix][]uint16) ([]policy.Rule, error) {
	var out []policy.Rule
	for _, p := range slices.SortedFunc(maps.Keys(prefixes), netip.Prefix.Compare) {
		var ports []policy.PortRange
		for _, port := range prefixes[p] {
			ports = append(ports, policy.PortRange{Proto: policy.ProtoTCP, First: port, Last: port})
		}
		r, err := policy.NewRule(policy.ActionAllow, p, ports)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	policy.Distinguish(out)
	return out, nil
}

func masked(bits4, bits6 int) func([]*schemas.Flow) ([]policy.Rule, error) {
	return func(flows []*schemas.Flow) ([]policy.Rule, error) {
		out := map[netip.Prefix][]uint16{}
		for port, addrs := range byPort(flows) {
			for a := range addrs {
				bits := bits6
				if a.Is4() {
					bits = bits4
				}
				p, err := a.Prefix(bits)
				if err != nil {
					return nil, err
				}
				if !slices.Contains(out[p], port) {
					out[p] = append(out[p], port)
				}
			}
		}
		return rules(out)
	}
}

func cover(flows []*schemas.Flow) ([]policy.Rule, error) {
	out := map[netip.Prefix][]uint16{}
	for port, addrs := range byPort(flows) {
		var b netipx.IPSetBuilder
		for a := range addrs {
			b.Add(a)
		}
		set, err := b.IPSet()
		if err != nil {
			return nil, err
		}
		for _, p := range set.Prefixes() {
			out[p] = append(out[p], port)
		}
	}
	return rules(out)
}

// learned approves the proposals that accept says yes to.
func learned(accept func(*schemas.ProposedRule) bool) func([]*schemas.Flow) ([]policy.Rule, error) {
	return func(flows []*schemas.Flow) ([]policy.Rule, error) {
		l := learner.New(learner.Options{Limits: learner.Limits{Open: 100_000}})
		l.Flows(1, flows)
		events, err := l.Plan(End)
		if err != nil {
			return nil, fmt.Errorf("plan: %w", err)
		}
		var out []policy.Rule
		for _, e := range events {
			for _, p := range e.GetProposalOpened().GetProposal().GetRules() {
				if !accept(p) {
					continue
				}
				r, err := policy.FromWire(p.GetRule())
				if err != nil {
					return nil, err
				}
				out = append(out, r)
			}
		}
		return out, nil
	}
}
