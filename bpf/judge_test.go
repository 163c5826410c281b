package bpf

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/policy"
)

// The cases are drawn from a small world, so that rules overlap and questions
// hit the edges of prefixes and ranges.
var (
	judgeAddrs = []string{"10.0.0.0", "10.0.0.1", "10.0.1.255", "10.128.0.0", "0.0.0.0", "0.0.0.1", "127.0.0.1",
		"127.0.0.11", "255.255.255.255", "192.0.2.7", "224.0.0.1", "169.254.169.254", "::", "::1", "::2", "::ffff:0:0",
		"::7f00:1", "::10.0.0.1", "2001:db8::", "2001:db8::1", "2001:db8:0:1::", "fe80::1", "ff02::1", "64:ff9b::a00:1"}
	judgeBits4  = []int{0, 1, 7, 8, 9, 16, 23, 24, 30, 31, 32}
	judgeBits6  = []int{0, 1, 16, 32, 47, 48, 63, 64, 65, 95, 96, 127, 128}
	judgePorts  = []uint16{0, 1, 53, 79, 80, 81, 443, 1023, 1024, 32767, 32768, 65534, 65535}
	judgeProtos = []policy.Proto{policy.ProtoTCP, policy.ProtoUDP, policy.ProtoICMP, policy.ProtoOther}
	judgeModes  = []policy.Mode{policy.ModeBlock, policy.ModeLearn, policy.ModeBlock, policy.ModeAllow, policy.ModeUnknown}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func randomRules(r *rand.Rand) []policy.Rule {
	var rules []policy.Rule
	for range r.IntN(12) {
		a := policy.Canonical(netip.MustParseAddr(pick(r, judgeAddrs)))
		bits := pick(r, judgeBits4)
		if a.Is6() {
			bits = pick(r, judgeBits6)
		}
		p, err := a.Prefix(bits)
		if err != nil {
			panic(err)
		}
		var ports []policy.PortRange
		for range pick(r, []int{0, 0, 1, 2, 3}) {
			pr := policy.PortRange{Proto: pick(r, judgeProtos), Last: 65535}
			if pr.Proto == policy.ProtoTCP || pr.Proto == policy.ProtoUDP {
				x, y := pick(r, judgePorts), pick(r, judgePorts)
				pr.First, pr.Last = min(x, y), max(x, y)
			}
			ports = append(ports, pr)
		}
		action := pick(r, []policy.Action{policy.ActionAllow, policy.ActionAllow, policy.ActionDeny})
		if rule, err := policy.NewRule(action, p, ports); err == nil {
			rules = append(rules, rule)
		}
	}
	policy.Distinguish(rules)
	return rules
}

func randomRequest(r *rand.Rand, s State) policy.Request {
	a := netip.MustParseAddr(pick(r, judgeAddrs))
	switch r.IntN(5) {
	case 0:
		if n := a.Next(); n.IsValid() {
			a = n
		}
	case 1:
		if n := a.Prev(); n.IsValid() {
			a = n
		}
	case 2:
		a = netip.AddrFrom16(a.As16())
	}
	return policy.Request{
		Dst: a, Proto: pick(r, judgeProtos), Port: pick(r, judgePorts),
		HostNetwork: s.HostNetwork, NoDNS: s.NoDNS,
	}
}

func TestKernelAgreesWithPolicyJudge(t *testing.T) {
	const questions = 480
	f := newFixture(t, nil)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	seen := map[policy.Verdict]int{}
	for i := range scaled(250) {
		rules := randomRules(r)
		table, err := policy.Compile(rules, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		f.putPolicy(t, 1, table, uint64(i))
		for range questions {
			s := State{Mode: pick(r, judgeModes), Slot: 1, HostNetwork: r.IntN(3) == 0, NoDNS: r.IntN(3) == 0}
			f.putState(t, 1, s)
			q := randomRequest(r, s)
			verdict, m := policy.Judge(table, s.Mode, q)
			want := Decision{Verdict: verdict, Rule: m.Rule, Revision: uint64(i)}
			if verdict == policy.VerdictNone {
				want = Decision{}
			}
			got, err := f.Judge(1, q.Dst, q.Proto, q.Port)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Fatalf("kernel says %+v, policy.Judge %+v\nrequest %+v\nstate %+v\nrules %v", got, want, q, s, rules)
			}
			seen[verdict]++
		}
	}
	for v := policy.VerdictNone; v <= policy.VerdictWouldDeny; v++ {
		if seen[v] < scaled(1000) {
			t.Errorf("only %d cases with verdict %v: %v", seen[v], v, seen)
		}
	}
}

func TestWithoutPolicyEverythingIsRefused(t *testing.T) {
	f := newFixture(t, nil)
	f.putState(t, 2, State{Mode: policy.ModeBlock, Slot: 9})
	f.putPolicy(t, 3, table("0.0.0.0/0", "::/0"), 5)
	f.putState(t, 3, State{Mode: policy.ModeBlock, Slot: 3})
	if err := f.FreePolicy(3); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		index uint32
	}{
		{"an unknown container", 0},
		{"an index without state", 1},
		{"a slot never set", 2},
		{"a slot that was freed", 3},
	} {
		for _, dst := range []string{"192.0.2.1", "2001:db8::1"} {
			d, err := f.Judge(c.index, netip.MustParseAddr(dst), policy.ProtoTCP, 443)
			if err != nil {
				t.Fatal(err)
			}
			if d.Verdict != policy.VerdictDeny || d.Rule != policy.RuleNone {
				t.Errorf("%s to %s: %+v, want deny", c.name, dst, d)
			}
		}
	}
}
