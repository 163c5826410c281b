package policy

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/egresswarden/egresswarden/schemas"
)

func flow(verdict Verdict, mode Mode, dst string, port uint16, change ...func(*schemas.Flow)) *schemas.Flow {
	f := &schemas.Flow{TimeNs: noon.UnixNano(), Verdict: schemas.Verdict(verdict), Count: 1, Workload: "web", Policy: "web",
		Mode: schemas.Mode(mode), Proto: 6, DstPort: uint32(port), Comm: "curl"}
	if dst != "" {
		f.DstIp = netip.MustParseAddr(dst).AsSlice()
	}
	for _, c := range change {
		c(f)
	}
	return f
}

func count(n uint64) func(*schemas.Flow) { return func(f *schemas.Flow) { f.Count = n } }

func reason(r string) func(*schemas.Flow) {
	return func(f *schemas.Flow) { f.Reason, f.Proto = r, uint32(ProtoUDP) }
}

func attempt(f *schemas.Flow) {
	f.Attempt, f.Hook, f.Rule = "inet raw socket", "sock_create", RuleSocket
}

func to(g Group) string {
	if g.Dst.IsValid() {
		return g.Dst.String()
	}
	return g.Attempt
}

func TestReplayTellsWhatChanges(t *testing.T) {
	s := NewState()
	s.Apply(1, added("10.0.0.0/8 tcp/443", "deny 10.6.0.0/16")(t))
	rules := map[string][]Rule{"web": mustRules(t, "0.0.0.0/0")}
	pass, deny, would := VerdictAllow, VerdictDeny, VerdictWouldDeny
	for _, c := range []struct {
		name      string
		candidate Candidate
		flow      *schemas.Flow
		want      string
	}{
		{"same policy", Candidate{State: s}, flow(pass, ModeBlock, "10.1.1.1", 443), "unchanged map[allow:1]"},
		{"denied before and after", Candidate{State: s}, flow(deny, ModeBlock, "10.6.1.1", 443), "unchanged map[deny:1]"},
		{"would be denied before and after", Candidate{State: s}, flow(would, ModeLearn, "10.1.1.1", 80), "unchanged map[would_deny:1]"},
		{"to block", Candidate{State: s, Modes: map[string]Mode{"web": ModeBlock}}, flow(would, ModeLearn, "10.1.1.1", 80),
			"denied 10.1.1.1 tcp/80 would_deny to deny"},
		{"to block of another", Candidate{State: s, Modes: map[string]Mode{"x": ModeBlock}}, flow(would, ModeLearn, "10.1.1.1", 80),
			"unchanged map[would_deny:1]"},
		{"all to learn", Candidate{State: s, Mode: ModeLearn}, flow(deny, ModeBlock, "10.1.1.1", 80),
			"allowed 10.1.1.1 tcp/80 deny to would_deny"},
		{"all to allow", Candidate{State: s, Mode: ModeAllow}, flow(deny, ModeBlock, "10.1.1.1", 80),
			"allowed 10.1.1.1 tcp/80 deny to allow"},
		{"no policy", Candidate{}, flow(pass, ModeBlock, "10.1.1.1", 443), "denied 10.1.1.1 tcp/443 allow to deny"},
		{"other rules", Candidate{State: s, Rules: rules}, flow(deny, ModeBlock, "10.6.1.1", 80), "allowed 10.6.1.1 tcp/80 deny to allow"},
		{"mapped address", Candidate{State: s}, flow(pass, ModeBlock, "::ffff:10.1.1.1", 443), "unchanged map[allow:1]"},
		{"reply stays allowed", Candidate{}, flow(pass, ModeBlock, "10.1.1.1", 5, reason("reply")), "unchanged map[allow:1]"},
		{"an attempt stays denied", Candidate{State: s}, flow(deny, ModeBlock, "", 0, attempt), "unchanged map[deny:1]"},
		{"an attempt, to block", Candidate{State: s, Mode: ModeBlock}, flow(would, ModeLearn, "", 0, attempt),
			"denied inet raw socket tcp/0 would_deny to deny"},
		{"an attempt, to allow", Candidate{State: s, Mode: ModeAllow}, flow(deny, ModeBlock, "", 0, attempt),
			"allowed inet raw socket tcp/0 deny to allow"},
		{"resolver stays allowed", Candidate{}, flow(pass, ModeBlock, "127.0.0.11", 53, reason("resolver")), "unchanged map[allow:1]"},
		{"resolver stays denied", Candidate{}, flow(deny, ModeBlock, "127.0.0.11", 53, reason("resolver")), "unchanged map[deny:1]"},
		{"loopback on the host's network is judged", Candidate{State: s}, flow(pass, ModeBlock, "127.0.0.1", 80),
			"denied 127.0.0.1 tcp/80 allow to deny"},
		{"overflow is unattributed", Candidate{}, flow(pass, ModeBlock, "", 0, reason("overflow"), count(7)), "unattributed 7"},
		{"no destination is unattributed", Candidate{}, flow(pass, ModeBlock, "", 0), "unattributed 1"},
	} {
		c.candidate.Now = noon
		r := NewReplay(c.candidate)
		if err := r.Add(c.flow); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := tell(r.Result()); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func tell(r Result) string {
	for word, groups := range map[string][]Group{"denied": r.NewlyDenied, "allowed": r.NewlyAllowed} {
		for _, g := range groups {
			return fmt.Sprintf("%s %s %s/%d %s to %s", word, to(g), g.Proto, g.Port, g.Before, g.After)
		}
	}
	if r.Unattributed > 0 {
		return fmt.Sprint("unattributed ", r.Unattributed)
	}
	return fmt.Sprint("unchanged ", r.Unchanged)
}

func TestReplayGroupsByDestination(t *testing.T) {
	r := NewReplay(Candidate{Now: noon})
	later := func(f *schemas.Flow) { f.TimeNs += int64(time.Hour) }
	wget := func(f *schemas.Flow) { f.Comm = "wget" }
	for _, f := range []*schemas.Flow{
		flow(VerdictAllow, ModeBlock, "10.0.0.1", 443, count(3)), flow(VerdictAllow, ModeBlock, "10.0.0.1", 443, later, wget),
		flow(VerdictAllow, ModeBlock, "10.0.0.2", 443, count(9), later), flow(VerdictDeny, ModeBlock, "10.0.0.3", 443)} {
		if err := r.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	got := r.Result()
	want := []Group{
		{"web", "web", "", netip.MustParseAddr("10.0.0.2"), ProtoTCP, 443, VerdictAllow, VerdictDeny, 0, 9,
			noon.Add(time.Hour), noon.Add(time.Hour), []string{"curl"}},
		{"web", "web", "", netip.MustParseAddr("10.0.0.1"), ProtoTCP, 443, VerdictAllow, VerdictDeny, 0, 4,
			noon, noon.Add(time.Hour), []string{"curl", "wget"}},
	}
	if diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(got.NewlyDenied)); diff != "" {
		t.Error(diff)
	}
	if got.Events != 4 || got.Decisions != 14 || got.Denied != 13 || got.Unchanged[VerdictDeny] != 1 ||
		!got.FirstSeen.Equal(noon) || !got.LastSeen.Equal(noon.Add(time.Hour)) {
		t.Errorf("result %+v", got)
	}
}

func TestReplayIsBounded(t *testing.T) {
	r := NewReplay(Candidate{Now: noon})
	for i := range MaxGroups + 10 {
		f := flow(VerdictAllow, ModeBlock, "10.0.0.1", uint16(i), func(f *schemas.Flow) { f.DstIp[1] = byte(i >> 16) })
		if err := r.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.Result(); len(got.NewlyDenied) != MaxGroups || !got.Truncated || got.Denied != MaxGroups+10 {
		t.Errorf("%d groups, truncated %v, %d denied", len(got.NewlyDenied), got.Truncated, got.Denied)
	}
}

func TestReplayUnderThePolicyThatJudgedChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := genRules(t, 10)
		table, err := Compile(rules, noon)
		if err != nil {
			t.Fatal(err)
		}
		r := NewReplay(Candidate{Rules: map[string][]Rule{"web": rules}, Now: noon})
		var decisions uint64
		for _, q := range rapid.SliceOfN(rapid.Custom(genQuestion), 1, 20).Draw(t, "questions") {
			mode := rapid.SampledFrom([]Mode{ModeLearn, ModeBlock}).Draw(t, "mode")
			v, m := Judge(table, mode, Request{Dst: q.dst, Proto: q.proto, Port: q.port})
			if v == VerdictNone {
				continue
			}
			f := flow(v, mode, q.dst.String(), q.port, count(3), func(f *schemas.Flow) { f.Proto = uint32(q.proto) })
			if m.Rule == RuleResolver {
				f.Reason = schemas.ReasonResolver
			}
			if err := r.Add(f); err != nil {
				t.Fatal(err)
			}
			decisions += 3
		}
		got := r.Result()
		if n := len(got.NewlyDenied) + len(got.NewlyAllowed); n != 0 || got.Decisions != decisions {
			t.Fatalf("%d groups changed: %s", n, tell(got))
		}
	})
}

func BenchmarkReplay(b *testing.B) {
	rules := manyRules(b, 1000, true)
	flows := make([]*schemas.Flow, 10_000)
	for i := range flows {
		v := VerdictAllow
		if rules[i%len(rules)].Action == ActionDeny {
			v = VerdictWouldDeny
		}
		flows[i] = flow(v, ModeLearn, rules[i%len(rules)].Prefix.Addr().String(), 443)
	}
	r := NewReplay(Candidate{Rules: map[string][]Rule{"web": rules}, Mode: ModeBlock, Now: noon})
	for i := 0; b.Loop(); i++ {
		if err := r.Add(flows[i%len(flows)]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
