package learner

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// genFlow draws from a small world, so that pools and scans come about.
func genFlow(t *rapid.T) *schemas.Flow {
	nets := []string{"192.0.2.0", "198.51.100.0", "10.1.2.0", "169.254.169.0", "2001:db8::", "fd00:ec2::", "fe80::"}
	a := netip.MustParseAddr(rapid.SampledFrom(nets).Draw(t, "net")).AsSlice()
	a[len(a)-1] = byte(rapid.SampledFrom([]int{1, 2, 3, 5, 8, 254, rapid.IntRange(0, 255).Draw(t, "host")}).Draw(t, "any"))
	port := rapid.SampledFrom([]uint16{443, 443, 80, 53, uint16(rapid.IntRange(1, 40).Draw(t, "port"))}).Draw(t, "which")
	f := flow("", port, times(uint64(rapid.IntRange(1, 5).Draw(t, "count"))),
		after(time.Duration(rapid.IntRange(0, 300).Draw(t, "minutes"))*time.Minute))
	f.DstIp = a
	f.Proto = uint32(rapid.SampledFrom([]policy.Proto{policy.ProtoTCP, policy.ProtoTCP, policy.ProtoUDP, policy.ProtoICMP}).Draw(t, "proto"))
	f.Reason = rapid.SampledFrom([]string{"", "", "", "", "", "", "", schemas.ReasonOverflow}).Draw(t, "reason")
	if rapid.IntRange(0, 9).Draw(t, "attributed") == 0 {
		f.Workload, f.Policy = "unknown", ""
	}
	return f
}

func TestApprovingEverythingLeavesNothingDenied(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench(t)
		denies := []string{"deny 192.0.2.5 tcp/443", "deny 2001:db8::8", "deny 198.51.100.0/25 udp"}
		b.rules("web", denies...)
		flows := rapid.SliceOfN(rapid.Custom(genFlow), 1, 120).Draw(t, "flows")
		b.flows(flows...)
		now := noon.Add(6 * time.Hour)
		for range 3 {
			b.plan(now)
			proposedFromEvidence(t, b.State(), flows)
			b.approve("web")
		}
		if open := b.open("web"); len(open) > 0 {
			t.Fatalf("still open: %v", open)
		}
		judge := policy.NewReplay(policy.Candidate{State: b.State(), Now: now})
		var forbidden []policy.Rule
		for _, p := range b.State().Policy("web").Rules {
			if p.Action == policy.ActionDeny {
				forbidden = append(forbidden, p)
			}
		}
		for _, f := range flows {
			a, _ := netip.AddrFromSlice(f.DstIp)
			port := uint16(f.DstPort)
			if f.Proto == uint32(policy.ProtoICMP) {
				port = 0
			}
			if f.Reason != "" || f.Policy == "" || policy.JudgeRules(forbidden, a, policy.Proto(f.Proto), port, now).Action == policy.ActionDeny {
				continue
			}
			if err := judge.Add(f); err != nil {
				t.Fatal(err)
			}
		}
		if r := judge.Result(); len(r.Unchanged) > 0 || len(r.NewlyDenied) > 0 {
			t.Fatalf("would be denied: %v %v\nrules %v", r.Unchanged, r.NewlyDenied, b.State().Policy("web").Rules)
		}
		admitsNothingForbidden(t, b.State().Policy("web").Rules)
	})
}

// proposedFromEvidence holds that each open proposal names flows that have a
// destination and a workload, and no others.
func proposedFromEvidence(t *rapid.T, s *policy.State, flows []*schemas.Flow) {
	known := map[string]bool{}
	for _, f := range flows {
		if a, ok := netip.AddrFromSlice(f.DstIp); ok && f.Reason == "" && f.Policy != "" {
			known[dest{a, policy.Proto(f.Proto), uint16(f.DstPort)}.String()] = true
		}
	}
	for _, p := range s.Proposals("", policy.StatusOpen) {
		for _, d := range p.Body.Rules[0].Destinations {
			if !known[d] {
				t.Fatalf("proposed %s for %s, which was lost or unattributed", p.Body.Title, d)
			}
		}
	}
}

// admitsNothingForbidden holds the proposed rules against the denying ones.
func admitsNothingForbidden(t *rapid.T, rules []policy.Rule) {
	for _, r := range rules {
		if r.Action == policy.ActionDeny {
			continue
		}
		if bits := r.Prefix.Bits(); r.Prefix.Addr().Is4() && bits < 24 || r.Prefix.Addr().Is6() && bits < 64 {
			t.Fatalf("%s is wider than the cap", r)
		}
		for _, d := range rules {
			if d.Action == policy.ActionDeny && d.Prefix.Overlaps(r.Prefix) && meet(d.Ports, r.Ports) {
				t.Fatalf("%s meets %s", r, d)
			}
		}
	}
}

func meet(a, b []policy.PortRange) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(p policy.PortRange) bool {
		return slices.ContainsFunc(b, func(q policy.PortRange) bool {
			return p.Proto == q.Proto && p.First <= q.Last && q.First <= p.Last
		})
	})
}

func TestWhatIsNoEvidenceIsNotProposed(t *testing.T) {
	for name, f := range map[string]*schemas.Flow{
		"overflow":        flow("", 0, func(f *schemas.Flow) { f.Reason = schemas.ReasonOverflow }),
		"no destination":  flow("", 443),
		"an attempt":      flow("", 0, func(f *schemas.Flow) { f.Hook, f.Attempt, f.Proto = "sock_create", "inet raw socket", 132 }),
		"reply":           flow("192.0.2.1", 443, func(f *schemas.Flow) { f.Reason = schemas.ReasonReply }),
		"resolver":        flow("127.0.0.11", 53, func(f *schemas.Flow) { f.Rule = policy.RuleResolver }),
		"allowed already": flow("192.0.2.9", 443, func(f *schemas.Flow) { f.Verdict = schemas.Verdict_VERDICT_ALLOW }),
		"ruled out":       flow("198.51.100.1", 443),
		"by everyone's":   flow("169.254.169.254", 80),
		"no policy":       flow("192.0.2.1", 443, func(f *schemas.Flow) { f.Policy = "" }),
	} {
		b := newBench(t)
		b.rules("web", "deny 198.51.100.0/24")
		b.rules(policy.Everyone, "deny 169.254.169.254")
		b.flows(f)
		b.plan(noon)
		if open := b.State().Proposals("", policy.StatusOpen); len(open) > 0 {
			t.Errorf("%s: proposed %v", name, open[0].Body)
		}
	}
}

func TestTheDoctorsProbeTeachesNothing(t *testing.T) {
	b := newBench(t)
	b.flows(flow("192.0.2.1", 443))
	before, err := b.Readiness(noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "egw-doctor"} {
		b.flows(flow("192.0.2.2", 9, func(f *schemas.Flow) {
			f.Workload, f.Policy, f.Reason = "egw-doctor", name, schemas.ReasonDoctor
		}))
	}
	b.plan(noon)
	if open := b.State().Proposals("", policy.StatusOpen); len(open) != 1 || open[0].Policy != "web" {
		t.Errorf("proposed: %+v", open)
	}
	after, err := b.Readiness(noon)
	if diff := cmp.Diff(before, after); err != nil || diff != "" {
		t.Errorf("readiness (%v): -before +after:\n%s", err, diff)
	}
}

func TestProposalsCarryTheirEvidence(t *testing.T) {
	b := newBench(t)
	b.flows(flow("192.0.2.7", 443, times(40)), flow("192.0.2.7", 443, by("wget"), after(time.Minute)),
		flow("192.0.2.7", 80, func(f *schemas.Flow) { f.Host, f.Verdict = "h2", schemas.Verdict_VERDICT_DENY }))
	b.plan(noon.Add(2 * time.Hour))
	open := b.State().Proposals("web", policy.StatusOpen)
	if len(open) != 1 {
		t.Fatalf("open: %v", b.open("web"))
	}
	got := open[0].Body
	want := "allow 192.0.2.7/32 tcp/80,tcp/443: denied once and would be denied 41 times since 2026-03-01 12:00 by curl, wget"
	if got.Title != want {
		t.Errorf("title %q, want %q", got.Title, want)
	}
	e := got.Rules[0]
	line := fmt.Sprint(e.AddressesAdmitted, e.AddressesSeen, e.Count, e.Denied, e.Processes, e.Hosts, e.Flags, e.Destinations,
		e.LastSeenNs-e.FirstSeenNs, e.Rule.Origin)
	if want := "1 1 42 42 [curl wget] [h1 h2] [] [tcp://192.0.2.7:80 tcp://192.0.2.7:443] 60000000000proposal"; line != want {
		t.Errorf("evidence %s\nwant     %s", line, want)
	}
}

func TestTitlesTellWhatWasDeniedFromWhatWouldBe(t *testing.T) {
	refused := func(f *schemas.Flow) { f.Verdict, f.Mode = schemas.Verdict_VERDICT_DENY, schemas.Mode_MODE_BLOCK }
	for want, flows := range map[string][]*schemas.Flow{
		": would be denied once since ":                       {flow("192.0.2.7", 443)},
		": would be denied 3 times since ":                    {flow("192.0.2.7", 443, times(3))},
		": denied 3 times since ":                             {flow("192.0.2.7", 443, times(3), refused)},
		": denied 4 times and would be denied 2 times since ": {flow("192.0.2.7", 443, times(2)), flow("192.0.2.7", 443, times(4), refused)},
	} {
		b := newBench(t)
		for _, f := range flows {
			b.flows(f)
			b.plan(noon) // a first refusal is another proposal
		}
		open := b.State().Proposals("web", policy.StatusOpen)
		if len(open) != 1 || !strings.Contains(open[0].Body.Title, want) {
			t.Errorf("open %v, want a title with %q", open, want)
		}
	}
}

func TestFlagsTellWhatToLookAtTwice(t *testing.T) {
	long := after(2 * time.Hour)
	for dst, want := range map[string]string{
		"10.0.0.1": "[private]", "100.64.0.1": "[private]", "fd12::1": "[private]", "169.254.169.254": "[metadata]",
		"fd00:ec2::254": "[metadata]", "169.254.1.1": "[link_local]", "fe80::1": "[link_local]", "224.0.0.1": "[multicast]",
		"192.0.2.1": "[]",
	} {
		b := newBench(t)
		b.flows(flow(dst, 443), flow(dst, 443, long))
		b.plan(noon.Add(3 * time.Hour))
		p := b.State().Proposals("web", policy.StatusOpen)
		if len(p) != 1 || fmt.Sprint(p[0].Body.Rules[0].Flags) != want {
			t.Errorf("%s: %v, want %s", dst, b.open("web"), want)
		}
	}
	b := newBench(t)
	b.flows(flow("192.0.2.1", 53))
	for port := range uint16(30) {
		b.flows(flow("192.0.2.2", 1000+10*port))
	}
	b.plan(noon)
	want := []string{"add 192.0.2.2/32 tcp/1000-1290 [single_sighting recent wide_ports]", "add 192.0.2.1/32 tcp/53 [resolver single_sighting recent]"}
	if diff := cmp.Diff(want, b.open("web")); diff != "" {
		t.Error(diff)
	}
}

func TestPoolIsWidenedAndScanIsNot(t *testing.T) {
	b := newBench(t)
	for i := range 40 {
		b.flows(flow(fmt.Sprintf("192.0.2.%d", 6*i+1), 443), flow(fmt.Sprintf("192.0.2.%d", 6*i+1), 443, after(3*time.Hour)),
			flow(fmt.Sprintf("10.0.0.%d", 6*i+1), 443), flow(fmt.Sprintf("10.0.0.%d", 6*i+1), 443, after(3*time.Hour)),
			flow(fmt.Sprintf("203.0.113.%d", 6*i+1), 22, by("nc")))
	}
	b.plan(noon.Add(4 * time.Hour))
	count := map[string]int{}
	for _, p := range b.State().Proposals("web", policy.StatusOpen) {
		r, err := policy.FromWire(p.Body.Rules[0].Rule)
		if err != nil {
			t.Fatal(err)
		}
		wide, err := r.Prefix.Addr().Prefix(24)
		if err != nil {
			t.Fatal(err)
		}
		count[fmt.Sprint(wide, " exact=", r.Prefix.IsSingleIP())]++
	}
	want := map[string]int{"192.0.2.0/24 exact=false": 1, "10.0.0.0/24 exact=true": 40, "203.0.113.0/24 exact=true": 40}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Error(diff)
	}
}

func TestRejectedProposalStaysQuietUnlessTheEvidenceGrows(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name string
		more []*schemas.Flow
		want int
	}{
		{"nothing new", nil, 0},
		{"the same again", []*schemas.Flow{flow("192.0.2.1", 443, times(500))}, 0},
		{"a little more on another day", []*schemas.Flow{flow("192.0.2.1", 443, times(2), after(2*day))}, 0},
		{"much more on another day", []*schemas.Flow{flow("192.0.2.1", 443, times(500), after(2*day))}, 1},
		{"another process", []*schemas.Flow{flow("192.0.2.1", 443, by("wget"))}, 1},
		{"another host", []*schemas.Flow{flow("192.0.2.1", 443, func(f *schemas.Flow) { f.Host = "h2" })}, 1},
	} {
		b := newBench(t)
		b.flows(flow("192.0.2.1", 443, times(10)))
		b.plan(noon.Add(2 * time.Hour))
		b.reject("web")
		b.flows(c.more...)
		b.plan(noon.Add(3 * day))
		open := b.State().Proposals("web", policy.StatusOpen)
		if len(open) != c.want {
			t.Errorf("%s: %d proposals, want %d", c.name, len(open), c.want)
		}
		if len(open) > 0 && !slices.Contains(open[0].Body.Rules[0].Flags, "rejected_before") {
			t.Errorf("%s: does not say that it was rejected: %s", c.name, open[0].Body.Title)
		}
	}
}

func TestRejectedAddressIsNotTakenInByWidening(t *testing.T) {
	b := newBench(t)
	b.flows(flow("192.0.2.100", 443))
	b.plan(noon)
	b.reject("web")
	for i := range 60 {
		dst := fmt.Sprintf("192.0.2.%d", 4*i+1)
		b.flows(flow(dst, 443), flow(dst, 443, after(3*time.Hour)))
	}
	b.plan(noon.Add(4 * time.Hour))
	for _, p := range b.State().Proposals("web", policy.StatusOpen) {
		r, err := policy.FromWire(p.Body.Rules[0].Rule)
		if err != nil {
			t.Fatal(err)
		}
		if r.Prefix.Contains(netip.MustParseAddr("192.0.2.100")) {
			t.Errorf("%s takes in what was rejected", r)
		}
	}
}

func TestUnusedRuleIsProposedForRemoval(t *testing.T) {
	const day = 24 * time.Hour
	b := newBench(t)
	b.rules("web", "192.0.2.1", "192.0.2.2", "deny 192.0.2.3")
	used := b.State().Policy("web").Rules[1]
	for d := range 40 {
		b.flows(flow("192.0.2.2", 443, after(time.Duration(d)*day), func(f *schemas.Flow) {
			f.Verdict, f.Rule = schemas.Verdict_VERDICT_ALLOW, used.Number()
		}))
		b.plan(noon.Add(time.Duration(d) * day))
		want := []string{}
		if d >= 30 {
			want = []string{"remove 192.0.2.1/32 []"}
		}
		if diff := cmp.Diff(want, b.open("web")); diff != "" {
			t.Fatalf("day %d: %s", d, diff)
		}
	}
	b.reject("web")
	b.plan(noon.Add(41 * day))
	if open := b.open("web"); len(open) > 0 {
		t.Errorf("rejected and yet open: %v", open)
	}
}

func TestRemovedRuleIsProposedAgainForNewDenialsOnly(t *testing.T) {
	b := newBench(t)
	b.flows(flow("192.0.2.1", 443))
	b.plan(noon)
	b.approve("web")
	id := b.State().Policy("web").Rules[0].ID
	b.event(&schemas.PolicyEvent{Policy: "web", TimeNs: noon.Add(time.Minute).UnixNano(),
		Change: &schemas.PolicyEvent_RuleRemoved{RuleRemoved: &schemas.RuleRemoved{Ids: []string{id}}}})
	b.plan(noon.Add(2 * time.Minute))
	if open := b.open("web"); len(open) > 0 {
		t.Errorf("what an operator removed is proposed at once: %v", open)
	}
	b.flows(flow("192.0.2.1", 443, after(time.Hour)))
	b.plan(noon.Add(time.Hour))
	if open := b.open("web"); len(open) != 1 {
		t.Errorf("open %v, want one", open)
	}
}

func TestGrownProposalSupersedesTheOldOne(t *testing.T) {
	b := newBench(t)
	b.flows(flow("192.0.2.1", 443))
	b.plan(noon)
	old := b.State().Proposals("web", policy.StatusOpen)[0]
	b.flows(flow("192.0.2.1", 80, times(100), by("wget")))
	b.plan(noon)
	open := b.State().Proposals("web", policy.StatusOpen)
	was, _ := b.State().Proposal(old.ID)
	if len(open) != 1 || was.Status != policy.StatusSuperseded || was.By != open[0].ID {
		t.Errorf("open %v, the old one %+v", b.open("web"), was)
	}
	b.rules("web", "192.0.2.1")
	b.plan(noon)
	if open := b.open("web"); len(open) > 0 {
		t.Errorf("allowed by hand and yet open: %v", open)
	}
}
