package policy

import (
	"net/netip"
	"testing"
)

func TestJudge(t *testing.T) {
	rules := mustRules(t, "10.0.0.0/8 tcp/443", "192.0.2.0/24", "deny 192.0.2.9", "127.0.0.0/8 tcp/80", "198.51.100.1 icmp")
	table, err := Compile(rules, noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		mode Mode
		dst  string
		q    Request
		want Verdict
		rule uint32
	}{
		{"allowed port passes", ModeBlock, "10.1.1.1", Request{Proto: ProtoTCP, Port: 443}, VerdictAllow, rules[0].Number()},
		{"other port is denied", ModeBlock, "10.1.1.1", Request{Proto: ProtoTCP, Port: 80}, VerdictDeny, RuleNone},
		{"other port would be denied", ModeLearn, "10.1.1.1", Request{Proto: ProtoTCP, Port: 80}, VerdictWouldDeny, RuleNone},
		{"mode allow judges nothing", ModeAllow, "10.1.1.1", Request{Proto: ProtoTCP, Port: 80}, VerdictNone, RuleNone},
		{"unknown mode blocks", ModeUnknown, "10.1.1.1", Request{Proto: ProtoTCP, Port: 80}, VerdictDeny, RuleNone},
		{"mapped address is judged as IPv4", ModeBlock, "::ffff:10.1.1.1", Request{Proto: ProtoTCP, Port: 443}, VerdictAllow, rules[0].Number()},
		{"compatible address is judged as IPv4", ModeBlock, "::192.0.2.9", Request{Proto: ProtoTCP, Port: 1}, VerdictDeny, rules[2].Number()},
		{"deny wins over the wider allow", ModeBlock, "192.0.2.9", Request{Proto: ProtoUDP, Port: 53}, VerdictDeny, rules[2].Number()},
		{"loopback is not judged", ModeBlock, "127.0.0.1", Request{Proto: ProtoTCP, Port: 1}, VerdictNone, RuleNone},
		{"unspecified is loopback", ModeBlock, "::", Request{Proto: ProtoTCP, Port: 1}, VerdictNone, RuleNone},
		{"mapped loopback is not judged", ModeBlock, "::ffff:127.0.0.1", Request{Proto: ProtoTCP, Port: 1}, VerdictNone, RuleNone},
		{"loopback of the host is judged", ModeBlock, "127.0.0.1", Request{Proto: ProtoTCP, Port: 1, HostNetwork: true}, VerdictDeny, RuleNone},
		{"loopback of the host by rule", ModeBlock, "127.0.0.1", Request{Proto: ProtoTCP, Port: 80, HostNetwork: true}, VerdictAllow, rules[3].Number()},
		{"resolver passes", ModeBlock, "127.0.0.11", Request{Proto: ProtoUDP, Port: 53}, VerdictAllow, RuleResolver},
		{"resolver is denied without DNS", ModeBlock, "127.0.0.11", Request{Proto: ProtoUDP, Port: 53, NoDNS: true}, VerdictDeny, RuleResolver},
		{"resolver would be denied without DNS", ModeLearn, "127.0.0.11", Request{Proto: ProtoUDP, Port: 53, NoDNS: true}, VerdictWouldDeny, RuleResolver},
		{"reply passes, even where denied", ModeBlock, "192.0.2.9", Request{Proto: ProtoUDP, Port: 5, Reply: true}, VerdictAllow, RuleReply},
		{"TCP has no replies", ModeBlock, "192.0.2.9", Request{Proto: ProtoTCP, Port: 5, Reply: true}, VerdictDeny, rules[2].Number()},
		{"ICMP ignores the port", ModeBlock, "198.51.100.1", Request{Proto: ProtoICMP, Port: 8}, VerdictAllow, rules[4].Number()},
		{"metadata address is judged", ModeBlock, "169.254.169.254", Request{Proto: ProtoTCP, Port: 80}, VerdictDeny, RuleNone},
	} {
		c.q.Dst = netip.MustParseAddr(c.dst)
		got, m := Judge(table, c.mode, c.q)
		if got != c.want || m.Rule != c.rule {
			t.Errorf("%s: %v by %d, want %v by %d", c.name, got, m.Rule, c.want, c.rule)
		}
	}
	if v, _ := Judge(nil, ModeBlock, Request{Dst: netip.MustParseAddr("10.0.0.1"), Proto: ProtoTCP}); v != VerdictDeny {
		t.Errorf("no policy: %v, want deny", v)
	}
}

func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		"::ffff:1.2.3.4": "1.2.3.4", "::1.2.3.4": "1.2.3.4", "::2": "0.0.0.2", "::": "::", "::1": "::1",
		"1.2.3.4": "1.2.3.4", "fe80::1%eth0": "fe80::1", "64:ff9b::1.2.3.4": "64:ff9b::102:304", "::1:0:0": "::1:0:0",
	} {
		if got := Canonical(netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// Among a million texts some share a hash.
func TestRulesWithTheSameHashGetDifferentIDs(t *testing.T) {
	seen := map[uint32]Rule{}
	for i := range 1 << 20 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		r, err := NewRule(ActionAllow, netip.PrefixFrom(a, 32), nil)
		if err != nil {
			t.Fatal(err)
		}
		other, ok := seen[r.Number()]
		seen[r.Number()] = r
		if !ok {
			continue
		}
		pair := []Rule{r, other, r}
		Distinguish(pair)
		if pair[0].ID == pair[1].ID || pair[0].ID != pair[2].ID || pair[0].ID != r.ID || pair[1].Number() < RuleReserved {
			t.Errorf("IDs %s, %s, %s", pair[0].ID, pair[1].ID, pair[2].ID)
		}
		return
	}
	t.Error("no two texts share a hash")
}
