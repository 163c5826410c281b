package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestCompiledTableAgreesWithPlainReading(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := genRules(t, 12)
		for i := range rules {
			rules[i].Expires = rapid.SampledFrom([]time.Time{{}, {}, noon.Add(-1), noon, noon.Add(1)}).Draw(t, "expires")
		}
		agree(t, rules)
	})
}

func TestCompiledTableAgreesWhenRulesComeAndGoInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := genRules(t, 8)
		var held []Rule
		for _, r := range rapid.Permutation(all).Draw(t, "added") {
			held = append(held, r)
			agree(t, held)
		}
		for _, gone := range rapid.Permutation(all).Draw(t, "removed") {
			i := slices.IndexFunc(held, func(r Rule) bool { return r.ID == gone.ID })
			held = slices.Delete(held, i, i+1)
			agree(t, held)
		}
	})
}

func agree(t *rapid.T, rules []Rule) {
	table, err := Compile(rules, noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range rapid.SliceOfN(rapid.Custom(genQuestion), 20, 20).Draw(t, "questions") {
		want := JudgeRules(rules, q.dst, q.proto, q.port, noon)
		if got := table.Match(q.dst, q.proto, q.port); got != want {
			t.Fatalf("%v: table says %v, the rules %v\n%v\n%+v", q, got, want, rules, table.Prefixes)
		}
	}
}

func TestCompileDependsOnTheSetOfRulesAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := genRules(t, 10)
		a, err := Compile(rules, noon)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Compile(rapid.Permutation(rules).Draw(t, "order"), noon)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.Prefixes, b.Prefixes) || !slices.Equal(a.Ports, b.Ports) {
			t.Fatalf("tables differ:\n%v\n%v", a, b)
		}
	})
}

func TestPortBlocksTouchAndCoverTheirRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint16().Draw(t, "a"), rapid.Uint16().Draw(t, "b")
		s := span{ProtoTCP, min(a, b), max(a, b), Match{ActionAllow, 20}}
		next := int(s.first)
		blocks := appendBlocks(nil, 1, s)
		for _, e := range blocks {
			size := 1 << (16 - e.Bits)
			if int(e.Port) != next || next%size != 0 {
				t.Fatalf("block %+v after %d", e, next)
			}
			next += size
		}
		if next != int(s.last)+1 || len(blocks) > 30 {
			t.Fatalf("%d blocks end at %d, want %d", len(blocks), next-1, s.last)
		}
	})
}

func TestNestedPortBlocksAnswerByTheLongest(t *testing.T) {
	m := func(n uint32) Match { return Match{ActionAllow, n} }
	table := &Table{
		Prefixes: []PrefixEntry{{netip.MustParsePrefix("0.0.0.0/0"), m(16), 1}},
		Ports: []PortEntry{{1, ProtoTCP, 0, 0, m(17)}, {1, ProtoTCP, 256, 8, m(18)}, {1, ProtoTCP, 257, 16, m(19)},
			{1, ProtoTCP, 65535, 16, m(20)}, {1, ProtoTCP, 0, 16, m(21)}},
	}
	for port, want := range map[uint16]uint32{0: 21, 1: 17, 255: 17, 256: 18, 257: 19, 258: 18, 511: 18, 512: 17, 65535: 20} {
		if got := table.Match(netip.MustParseAddr("192.0.2.1"), ProtoTCP, port); got != m(want) {
			t.Errorf("port %d: %v, want rule %d", port, got, want)
		}
	}
	if got := table.Match(netip.MustParseAddr("192.0.2.1"), ProtoUDP, 1); got != m(16) {
		t.Errorf("a protocol outside the set: %v, want the entry's own", got)
	}
}

func TestEqualPortsAreOneSet(t *testing.T) {
	rules := mustRules(t, "deny 0.0.0.0/0 tcp/25,udp/1000-1999")
	for i := range 100 {
		rules = append(rules, mustRules(t, fmt.Sprintf("10.0.%d.0/24", i))...)
	}
	table, err := Compile(rules, noon)
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Prefixes) != 101 || len(table.Ports) > 20 {
		t.Errorf("%d prefixes, %d ports", len(table.Prefixes), len(table.Ports))
	}
}

func TestRulesUnderADenyAddNothing(t *testing.T) {
	table, err := Compile(mustRules(t, "deny 10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16 tcp/443"), noon)
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Prefixes) != 1 || len(table.Ports) != 0 {
		t.Errorf("table %+v", table.Prefixes)
	}
}

func TestCompileRefusesWhatNewRuleDidNotMake(t *testing.T) {
	good := mustRules(t, "10.0.0.0/8")[0]
	for name, change := range map[string]func(*Rule){
		"no ID":          func(r *Rule) { r.ID = "" },
		"reserved ID":    func(r *Rule) { r.ID = "00000001" },
		"no action":      func(r *Rule) { r.Action = ActionNone },
		"host bits":      func(r *Rule) { r.Prefix = netip.MustParsePrefix("10.0.0.1/8") },
		"mapped address": func(r *Rule) { r.Prefix = netip.MustParsePrefix("::ffff:10.0.0.0/104") },
		"no prefix":      func(r *Rule) { r.Prefix = netip.Prefix{} },
	} {
		r := good
		change(&r)
		if table, err := Compile([]Rule{r}, noon); err == nil || table != nil {
			t.Errorf("%s: compiled", name)
		}
	}
}

func TestCompileRefusesPortsThatExplode(t *testing.T) {
	var rules []Rule
	for port := uint16(1); port < 60001; port += 2 {
		r, err := NewRule(ActionDeny, netip.MustParsePrefix("0.0.0.0/0"), []PortRange{{ProtoTCP, port, port}})
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	for i := range 5000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		r, err := NewRule(ActionAllow, p, []PortRange{{ProtoUDP, 7, 7}})
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	if _, err := Compile(rules, noon); !errors.Is(err, ErrTooLarge) {
		t.Errorf("error %v, want ErrTooLarge", err)
	}
}

// manyRules makes n rules of both families, some of which overlap.
func manyRules(tb testing.TB, n int, ports bool) []Rule {
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	rules := make([]Rule, 0, n)
	for len(rules) < n {
		a := netip.AddrFrom4([4]byte{byte(1 + rnd.IntN(200)), byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32())})
		bits := 12 + rnd.IntN(21)
		if rnd.IntN(4) == 0 {
			var b [16]byte
			b[0], b[1], b[2], b[3] = 0x20, 0x01, byte(rnd.Uint32()), byte(rnd.Uint32())
			b[5], b[9] = byte(rnd.Uint32()), byte(rnd.Uint32())
			a, bits = netip.AddrFrom16(b), 24+rnd.IntN(64)
		}
		p, err := a.Prefix(bits)
		if err != nil {
			tb.Fatal(err)
		}
		action := ActionAllow
		if rnd.IntN(10) == 0 {
			action = ActionDeny
		}
		var pr []PortRange
		if ports {
			first := uint16(rnd.IntN(60000))
			pr = []PortRange{{ProtoTCP, 443, 443}, {ProtoUDP, first, first + uint16(rnd.IntN(100))}}
		}
		r, err := NewRule(action, p, pr)
		if err != nil {
			tb.Fatal(err)
		}
		rules = append(rules, r)
	}
	Distinguish(rules)
	return rules
}

func TestManyRulesAgreeWithPlainReading(t *testing.T) {
	rules := manyRules(t, 5000, true)
	table, err := Compile(rules, noon)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		dst := rules[rnd.IntN(len(rules))].Prefix.Addr()
		port := uint16(443)
		proto := ProtoTCP
		if rnd.IntN(2) == 0 {
			proto, port = ProtoUDP, rules[rnd.IntN(len(rules))].Ports[1].First
		}
		if got, want := table.Match(dst, proto, port), JudgeRules(rules, dst, proto, port, noon); got != want {
			t.Fatalf("%s %s/%d: %v, want %v", dst, proto, port, got, want)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, c := range []struct {
		n     int
		ports bool
	}{{10_000, false}, {100_000, false}, {50_000, true}} {
		rules := manyRules(b, c.n, c.ports)
		b.Run(fmt.Sprintf("rules=%d,ports=%t", c.n, c.ports), func(b *testing.B) {
			for b.Loop() {
				if _, err := Compile(rules, noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMatch(b *testing.B) {
	rules := manyRules(b, 100_000, true)
	table, err := Compile(rules, noon)
	if err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		table.Match(rules[i%len(rules)].Prefix.Addr(), ProtoTCP, 443)
		i++
	}
}
