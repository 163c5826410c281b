package policy

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// The generators draw from a small world, so that rules overlap and cases hit
// the edges of ranges.
var (
	someAddrs = []string{"10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.1.0", "10.128.0.0", "11.0.0.0", "0.0.0.0",
		"255.255.255.255", "192.0.2.7", "2001:db8::", "2001:db8::1", "2001:db8:0:1::", "::", "::1", "fe80::1", "ff02::1"}
	someBits4 = []int{0, 1, 7, 8, 9, 16, 23, 24, 30, 31, 32}
	someBits6 = []int{0, 1, 16, 32, 47, 48, 63, 64, 65, 127, 128}
	somePorts = []uint16{0, 1, 2, 53, 79, 80, 81, 442, 443, 444, 1023, 1024, 32767, 32768, 65534, 65535}
	someProto = []Proto{ProtoTCP, ProtoUDP, ProtoICMP, ProtoOther}
)

func genPorts(t *rapid.T) []PortRange {
	var out []PortRange
	for range rapid.SampledFrom([]int{0, 0, 1, 1, 2, 3}).Draw(t, "ranges") {
		p := PortRange{Proto: rapid.SampledFrom(someProto).Draw(t, "proto"), Last: 65535}
		if p.Proto == ProtoTCP || p.Proto == ProtoUDP {
			a, b := rapid.SampledFrom(somePorts).Draw(t, "port"), rapid.SampledFrom(somePorts).Draw(t, "port")
			p.First, p.Last = min(a, b), max(a, b)
		}
		out = append(out, p)
	}
	return out
}

func genRule(t *rapid.T) Rule {
	for {
		a := netip.MustParseAddr(rapid.SampledFrom(someAddrs).Draw(t, "addr"))
		bits := rapid.SampledFrom(someBits4).Draw(t, "bits")
		if a.Is6() {
			bits = rapid.SampledFrom(someBits6).Draw(t, "bits6")
		}
		p, err := a.Prefix(bits)
		if err != nil {
			t.Fatal(err)
		}
		action := rapid.SampledFrom([]Action{ActionAllow, ActionAllow, ActionDeny}).Draw(t, "action")
		r, err := NewRule(action, p, genPorts(t))
		if err == nil {
			return r
		}
	}
}

func genRules(t *rapid.T, most int) []Rule {
	rules := rapid.SliceOfN(rapid.Custom(genRule), 0, most).Draw(t, "rules")
	Distinguish(rules)
	return rules
}

type question struct {
	dst   netip.Addr
	proto Proto
	port  uint16
}

func genQuestion(t *rapid.T) question {
	a := netip.MustParseAddr(rapid.SampledFrom(someAddrs).Draw(t, "dst"))
	switch rapid.IntRange(0, 3).Draw(t, "step") {
	case 1:
		if n := a.Next(); n.IsValid() {
			a = n
		}
	case 2:
		if p := a.Prev(); p.IsValid() {
			a = p
		}
	case 3:
		a = netip.AddrFrom16(a.As16())
	}
	return question{a, rapid.SampledFrom(someProto).Draw(t, "proto"), rapid.SampledFrom(somePorts).Draw(t, "port")}
}

func mustRules(t testing.TB, lines ...string) []Rule {
	t.Helper()
	var rules []Rule
	for _, l := range lines {
		r, err := ParseRule(l)
		if err != nil {
			t.Fatalf("rule %q: %v", l, err)
		}
		rules = append(rules, r)
	}
	return rules
}
