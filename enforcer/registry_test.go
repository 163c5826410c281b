package enforcer

import (
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/policy"
)

func rules(t *testing.T, lines ...string) []policy.Rule {
	t.Helper()
	var out []policy.Rule
	for _, l := range lines {
		r, err := policy.ParseRule(l)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func labelled(id, mode string) description {
	d := description{ID: id, Name: "name-" + id, Labels: map[string]string{}}
	if mode != "" {
		d.Labels[labelMode] = mode
	}
	return d
}

func put(t *testing.T, r *registry, d description) {
	t.Helper()
	if err := r.Put(d); err != nil {
		t.Fatal(err)
	}
}

func setPolicies(t *testing.T, r *registry, set policySet) []string {
	t.Helper()
	changed, err := r.SetPolicies(set, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

var inside = netip.MustParseAddr("192.0.2.1")

func allows(k *fakeKernel, id string) bool {
	_, table := k.table(id)
	return table != nil && table.Match(inside, policy.ProtoTCP, 443).Action == policy.ActionAllow
}

func TestPoliciesReachTheirWorkloadsAndNoOther(t *testing.T) {
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	put(t, r, labelled("a", "block"))
	put(t, r, labelled("b", "block"))
	if allows(k, "a") || allows(k, "b") {
		t.Fatal("a container without a policy is open")
	}
	changed := setPolicies(t, r, policySet{Rules: map[string][]policy.Rule{"name-a": rules(t, "192.0.2.0/24")}, Revision: map[string]uint64{"name-a": 7}})
	if len(changed) != 1 || changed[0] != "name-a" {
		t.Errorf("changed %v, want name-a", changed)
	}
	if !allows(k, "a") || allows(k, "b") {
		t.Errorf("a allows %v, b allows %v, want true and false", allows(k, "a"), allows(k, "b"))
	}
	setPolicies(t, r, policySet{Rules: map[string][]policy.Rule{policy.Everyone: rules(t, "192.0.2.0/24")}})
	if !allows(k, "a") || !allows(k, "b") {
		t.Error("the policy of everyone does not reach everyone")
	}
}

func TestOperatorBeatsLabelBeatsDefault(t *testing.T) {
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	put(t, r, labelled("a", "learn"))
	put(t, r, labelled("b", ""))
	put(t, r, labelled("c", "lern"))
	check := func(id string, want policy.Mode) {
		t.Helper()
		if s, _ := k.table(id); s.Mode != want {
			t.Errorf("%s has mode %s, want %s", id, s.Mode, want)
		}
	}
	check("a", policy.ModeLearn)
	check("b", policy.ModeAllow)
	check("c", policy.ModeBlock)
	setPolicies(t, r, policySet{Modes: map[string]policy.Mode{"name-a": policy.ModeBlock, "name-b": policy.ModeLearn, "name-c": policy.ModeAllow}})
	check("a", policy.ModeBlock)
	check("b", policy.ModeLearn)
	check("c", policy.ModeBlock)
	setPolicies(t, r, policySet{})
	check("a", policy.ModeLearn)
	check("b", policy.ModeAllow)
}

func TestAPolicyThatDoesNotFitKeepsTheLastGood(t *testing.T) {
	k := newFakeKernel()
	r, ev := newTestRegistry(t, k)
	put(t, r, labelled("a", "block"))
	setPolicies(t, r, policySet{Rules: map[string][]policy.Rule{"name-a": rules(t, "192.0.2.0/24")}})
	k.full = true
	if _, err := r.SetPolicies(policySet{Rules: map[string][]policy.Rule{"name-a": rules(t, "198.51.100.0/24")}}, time.Now()); err == nil {
		t.Error("a table that does not fit is no error")
	}
	if !allows(k, "a") {
		t.Error("the last good policy is gone")
	}
	if ev.count("policy.invalid") == 0 {
		t.Error("nothing is reported")
	}
	if err := r.Put(labelled("new", "block")); err == nil {
		t.Error("a container whose policy does not fit is no error")
	}
	if s, table := k.table("new"); s.Mode != policy.ModeBlock || table != nil {
		t.Errorf("the new container has mode %s and table %v, want block and none", s.Mode, table)
	}
}

func TestMoreContainersThanTheGateHoldsIsLoud(t *testing.T) {
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	for i := range 62 {
		put(t, r, labelled(string(rune('A'+i)), "learn"))
	}
	if err := r.Put(labelled("one too many", "learn")); err == nil {
		t.Error("no error")
	}
	if _, known := k.containers["one too many"]; known {
		t.Error("the container shares another's index")
	}
}

func TestAnIndexIsFreeOnlyAfterItsCountsAreOut(t *testing.T) {
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	now := time.Now()
	r.Now = func() time.Time { return now }
	put(t, r, labelled("a", "learn"))
	index := k.containers["a"]
	if err := r.Remove("a"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(restToFree)
	for range sweepsToFree - 1 {
		r.Swept()
	}
	put(t, r, labelled("b", "learn"))
	if k.containers["b"] == index {
		t.Fatal("the index was given away too early")
	}
	if c, ok := r.Lookup(index); !ok || c.ID != "a" {
		t.Errorf("the index names %v, want a", c.ID)
	}
	r.Swept()
	put(t, r, labelled("c", "learn"))
	if k.containers["c"] != index {
		t.Error("the index is never given again")
	}
}

func TestAnIndexIsFreeOnlyAfterItsUDPPeersAreForgotten(t *testing.T) {
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	now := time.Now()
	r.Now = func() time.Time { return now }
	put(t, r, labelled("a", "learn"))
	index := k.containers["a"]
	if err := r.Remove("a"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute)
	for range 3 * sweepsToFree {
		r.Swept()
	}
	if _, taken := r.Lookup(index); !taken {
		t.Fatal("the index is free while the gate may know its peers")
	}
	// A restart does not know how long an index has rested.
	again, _ := newTestRegistry(t, newFakeKernel())
	again.Now = r.Now
	again.restore(r.snapshot())
	now = now.Add(restToFree - time.Minute)
	for range 3 * sweepsToFree {
		r.Swept()
		again.Swept()
	}
	if _, taken := r.Lookup(index); taken {
		t.Error("the index is never free")
	}
	if _, taken := again.Lookup(index); !taken {
		t.Error("a restart cuts the rest short")
	}
}

func TestTimedRuleEndsWithoutAnyone(t *testing.T) {
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	put(t, r, labelled("a", "block"))
	now := time.Now()
	timed := rules(t, "192.0.2.0/24")
	timed[0].Expires = now.Add(time.Hour)
	setPolicies(t, r, policySet{Rules: map[string][]policy.Rule{"name-a": timed}})
	if !allows(k, "a") || r.expired(now) {
		t.Fatal("the rule is not in force")
	}
	if !r.expired(now.Add(time.Hour)) {
		t.Fatal("nobody would notice the end of the rule")
	}
	if _, err := r.SetPolicies(r.Desired(), now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if allows(k, "a") || r.expired(now.Add(2*time.Hour)) {
		t.Error("the rule is in force after its end")
	}
}

func TestSnapshotBringsBackThePolicyBeforeDockerAnswers(t *testing.T) {
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	put(t, r, labelled("a", "block"))
	put(t, r, labelled("b", "learn"))
	setPolicies(t, r, policySet{
		Rules: map[string][]policy.Rule{"name-a": rules(t, "192.0.2.0/24 tcp/443")},
		Modes: map[string]policy.Mode{"name-b": policy.ModeBlock}, Revision: map[string]uint64{"name-a": 3},
	})
	path := filepath.Join(t.TempDir(), "snapshot.json")
	if err := r.snapshot().write(path); err != nil {
		t.Fatal(err)
	}

	after := newFakeKernel()
	r2, _ := newTestRegistry(t, after)
	s, err := loadSnapshot(path)
	if err != nil {
		t.Fatal(err)
	}
	r2.restore(s)
	if !allows(after, "a") {
		t.Error("the policy did not come back")
	}
	if st, _ := after.table("b"); st.Mode != policy.ModeBlock {
		t.Errorf("the override did not come back: %s", st.Mode)
	}
}

func TestARestartKeepsIndexesAndFreesWhatTheFormerProcessFilled(t *testing.T) {
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	put(t, r, labelled("a", "block"))
	setPolicies(t, r, policySet{Rules: map[string][]policy.Rule{"name-a": rules(t, "192.0.2.0/24")}})
	index, slot := k.containers["a"], k.states[k.containers["a"]].Slot

	r2, _ := newTestRegistry(t, k)
	if err := r2.adopt(); err != nil {
		t.Fatal(err)
	}
	if !allows(k, "a") {
		t.Fatal("adopting alone changed the verdict")
	}
	r2.restore(r.snapshot())
	put(t, r2, labelled("a", "block"))
	if s := k.states[index]; s.Slot != slot {
		t.Error("a snapshot, which may be older, replaced what is in force")
	}
	setPolicies(t, r2, r.Desired())
	if k.containers["a"] != index {
		t.Error("the index moved")
	}
	if s := k.states[index]; s.Slot == slot {
		t.Error("a slot in use was written to")
	}
	if !allows(k, "a") {
		t.Error("the policy is not in force")
	}
	if err := r2.Settle([]description{{ID: "a"}}, time.Hour, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, held := k.policies[slot]; held {
		t.Error("the former slot is never freed")
	}
}

func TestWorkloadsShareTheTableOfEveryoneAndNoOther(t *testing.T) {
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	put(t, r, labelled("a", "block"))
	put(t, r, labelled("b", "block"))
	everyone := rules(t, "192.0.2.0/24", "198.51.100.0/24")
	now := time.Now()
	everyone[0].Expires = now.Add(time.Hour)
	set := policySet{Rules: map[string][]policy.Rule{policy.Everyone: everyone}}
	setPolicies(t, r, set)
	_, a := k.table("a")
	if _, b := k.table("b"); a != b || !allows(k, "a") {
		t.Error("two workloads under the policy of everyone alone have not one table")
	}
	if _, err := r.SetPolicies(set, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if allows(k, "a") || allows(k, "b") {
		t.Error("a table outlives a rule of it")
	}
	changed := slices.Clone(everyone)
	changed[1].Prefix = netip.MustParsePrefix("192.0.2.0/24") // with the same ID, as two rules may have
	set = policySet{Rules: map[string][]policy.Rule{policy.Everyone: changed}, Revision: map[string]uint64{policy.Everyone: 9}}
	if _, err := r.SetPolicies(set, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if !allows(k, "a") {
		t.Error("other rules of the same fingerprint were taken for the same")
	}
}

func TestRulesOfAWorkloadAddToThoseOfEveryone(t *testing.T) {
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	put(t, r, labelled("a", "block"))
	put(t, r, labelled("b", "block"))
	setPolicies(t, r, policySet{Rules: map[string][]policy.Rule{
		policy.Everyone: rules(t, "192.0.2.0/24"), "name-b": rules(t, "203.0.113.0/24"),
	}})
	theirs := netip.MustParseAddr("203.0.113.1")
	for id, want := range map[string]policy.Action{"a": policy.ActionNone, "b": policy.ActionAllow} {
		_, table := k.table(id)
		if got := table.Match(theirs, policy.ProtoTCP, 443).Action; got != want || !allows(k, id) {
			t.Errorf("%s: %v for its own rule, allowed by everyone's %v", id, got, allows(k, id))
		}
	}
}

func TestARenameTakesNoPolicyAndNoModeOff(t *testing.T) {
	k := newFakeKernel()
	r, _ := newTestRegistry(t, k)
	put(t, r, labelled("a", ""))
	setPolicies(t, r, policySet{
		Rules: map[string][]policy.Rule{"name-a": rules(t, "192.0.2.0/24")}, Modes: map[string]policy.Mode{"name-a": policy.ModeBlock},
	})
	renamed := labelled("a", "")
	renamed.Name = "other"
	check := func(what string, k *fakeKernel, r *registry) {
		t.Helper()
		if s, _ := k.table("a"); s.Mode != policy.ModeBlock || !allows(k, "a") {
			t.Errorf("%s: mode %s, its policy in force %v, want block and true", what, s.Mode, allows(k, "a"))
		}
		if c, _ := r.Lookup(k.containers["a"]); c.Workload != "name-a" || c.Name != "other" {
			t.Errorf("%s: container %s of workload %s, want other of name-a", what, c.Name, c.Workload)
		}
	}
	put(t, r, renamed)
	check("renamed", k, r)

	path := filepath.Join(t.TempDir(), "snapshot.json")
	if err := r.snapshot().write(path); err != nil {
		t.Fatal(err)
	}
	s, err := loadSnapshot(path)
	if err != nil {
		t.Fatal(err)
	}
	after := newFakeKernel()
	r2, _ := newTestRegistry(t, after)
	r2.restore(s)
	put(t, r2, renamed)
	check("after a reboot", after, r2)

	r3, _ := newTestRegistry(t, k)
	if err := r3.adopt(); err != nil {
		t.Fatal(err)
	}
	r3.restore(s)
	put(t, r3, renamed)
	setPolicies(t, r3, r.Desired())
	check("after a restart", k, r3)
}

func TestAContainerHasNoneOfAFormerOnesDecisions(t *testing.T) {
	k := newFakeKernel()
	k.counters[1], k.overflow[1] = bpf.Counters{Allow: 7, Deny: 5, WouldDeny: 3}, bpf.Counters{Deny: 2}
	r, _ := newTestRegistry(t, k)
	put(t, r, labelled("a", "learn"))
	decisions := func(r *registry) Counters {
		t.Helper()
		list := r.List()
		if len(list) != 1 {
			t.Fatalf("%d containers, want one", len(list))
		}
		now, err := r.counted(list[0].Index)
		if err != nil {
			t.Fatal(err)
		}
		return now.since(list[0].Base)
	}
	if got := decisions(r); got != (Counters{}) || k.containers["a"] != 1 {
		t.Errorf("a new container of index %d has %+v", k.containers["a"], got)
	}
	k.counters[1], k.overflow[1] = bpf.Counters{Allow: 8, Deny: 7, WouldDeny: 6}, bpf.Counters{Deny: 6}
	want := Counters{Allow: 1, Deny: 2, WouldDeny: 3, Overflow: 4}
	if got := decisions(r); got != want {
		t.Errorf("decisions %+v, want %+v", got, want)
	}
	path := filepath.Join(t.TempDir(), "snapshot.json")
	if err := r.snapshot().write(path); err != nil {
		t.Fatal(err)
	}
	s, err := loadSnapshot(path)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := newTestRegistry(t, k)
	if err := again.adopt(); err != nil {
		t.Fatal(err)
	}
	again.restore(s)
	if got := decisions(again); got != want {
		t.Errorf("after a restart %+v, want %+v", got, want)
	}
	// A new boot, or a new layout, counts from nothing.
	fresh := newFakeKernel()
	booted, _ := newTestRegistry(t, fresh)
	booted.restore(s)
	fresh.counters[1] = bpf.Counters{Allow: 1}
	if got := decisions(booted); got != (Counters{Allow: 1}) {
		t.Errorf("after a boot %+v, want one allowed", got)
	}
}
