package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/egresswarden/egresswarden/schemas"
)

// MaxGroups bounds the changed destinations that a replay tells apart; what is
// beyond is counted alone.
const MaxGroups = 100_000

// maxProcesses bounds the names of processes in a group.
const maxProcesses = 8

// Candidate is what recorded flows are judged under.
type Candidate struct {
	// State at some revision; nil is no policy at all.
	State *State
	// Rules replaces the own rules of the policies named.
	Rules map[string][]Rule
	// Modes replaces the recorded mode of workloads, Mode that of all others;
	// ModeUnknown is as recorded.
	Modes map[string]Mode
	Mode  Mode
	// Now decides which timed rules are in force.
	Now time.Time
}

// Group is a destination whose verdict differs, with what was recorded of it.
type Group struct {
	Policy, Workload string
	// Attempt is what was asked for where there is no Dst, see schemas.Flow.
	Attempt             string
	Dst                 netip.Addr
	Proto               Proto
	Port                uint16
	Before, After       Verdict
	Rule                uint32
	Count               uint64
	FirstSeen, LastSeen time.Time
	// Processes are some of the names, in the order of being seen.
	Processes []string
}

// Result is what a replay found. Counts are decisions, not events.
type Result struct {
	Events    uint64
	Decisions uint64
	// NewlyDenied and NewlyAllowed are sorted, the greatest count first.
	NewlyDenied, NewlyAllowed []Group
	// Denied and Allowed are the decisions of those groups, and of the ones
	// beyond MaxGroups.
	Denied, Allowed uint64
	// Unchanged decisions by their verdict.
	Unchanged map[Verdict]uint64
	// Unattributed decisions were counted without their destination, which
	// nothing can be said of.
	Unattributed uint64
	// Truncated says that there were more groups than MaxGroups.
	Truncated           bool
	FirstSeen, LastSeen time.Time
}

// Replay judges recorded flows, one after the other.
type Replay struct {
	candidate Candidate
	tables    map[string]*Table
	groups    map[groupKey]*groupSum
	last      struct {
		policy string
		table  *Table
	}
	unchanged [VerdictWouldDeny + 1]uint64
	out       Result
	firstNs   int64
	lastNs    int64
}

type groupKey struct {
	policy, workload string
	attempt          string
	dst              netip.Addr
	proto            Proto
	port             uint16
	before, after    Verdict
}

type groupSum struct {
	count           uint64
	rule            uint32
	firstNs, lastNs int64
	processes       []string
}

// NewReplay prepares to judge under a candidate. The candidate's state must
// not change meanwhile.
func NewReplay(c Candidate) *Replay {
	return &Replay{candidate: c, tables: map[string]*Table{}, groups: map[groupKey]*groupSum{}}
}

// Add judges a flow. It keeps nothing of the flow but strings. The error is
// that of compiling the policy.
func (r *Replay) Add(f *schemas.Flow) error {
	r.out.Events++
	r.out.Decisions += f.GetCount()
	r.seen(f.GetTimeNs())
	if f.GetAttempt() != "" {
		r.attempt(f)
		return nil
	}
	dst, ok := netip.AddrFromSlice(f.GetDstIp())
	if !ok || f.GetReason() == schemas.ReasonOverflow {
		r.out.Unattributed += f.GetCount()
		return nil
	}
	t, err := r.table(f.GetPolicy())
	if err != nil {
		return err
	}
	dst = Canonical(dst)
	proto, port := Proto(f.GetProto()), uint16(f.GetDstPort())
	after, m := Judge(t, r.mode(f), request(f, dst, proto, port))
	if after == VerdictNone {
		after = VerdictAllow
	}
	r.judged(groupKey{dst: dst, proto: proto, port: port, after: after}, m.Rule, f)
	return nil
}

// attempt judges what no rule can allow: the mode alone decides.
func (r *Replay) attempt(f *schemas.Flow) {
	k := groupKey{attempt: f.GetAttempt(), proto: Proto(f.GetProto()), after: VerdictDeny}
	switch r.mode(f) {
	case ModeAllow:
		k.after = VerdictAllow
	case ModeLearn:
		k.after = VerdictWouldDeny
	}
	r.judged(k, f.GetRule(), f)
}

// judged takes note of a verdict, and of what was asked where it is another one.
func (r *Replay) judged(k groupKey, rule uint32, f *schemas.Flow) {
	k.policy, k.workload, k.before = f.GetPolicy(), f.GetWorkload(), Verdict(f.GetVerdict())
	if k.before == k.after {
		r.unchanged[k.after] += f.GetCount()
		return
	}
	r.changed(k, rule, f)
}

// request asks again what the gate was asked.
func request(f *schemas.Flow, dst netip.Addr, proto Proto, port uint16) Request {
	q := Request{Dst: dst, Proto: proto, Port: port}
	q.Reply = f.GetReason() == schemas.ReasonReply
	if dst == resolver {
		asked := f.GetReason() == schemas.ReasonResolver
		q.HostNetwork = !asked
		q.NoDNS = asked && f.GetVerdict() != schemas.Verdict_VERDICT_ALLOW
	} else {
		// Loopback is only recorded of containers on the host's network.
		q.HostNetwork = IsLocal(dst)
	}
	return q
}

func (r *Replay) mode(f *schemas.Flow) Mode {
	if len(r.candidate.Modes) > 0 {
		if m := r.candidate.Modes[f.GetWorkload()]; m != ModeUnknown {
			return m
		}
	}
	if r.candidate.Mode != ModeUnknown {
		return r.candidate.Mode
	}
	return Mode(f.GetMode())
}

func (r *Replay) table(name string) (*Table, error) {
	if r.last.table != nil && r.last.policy == name {
		return r.last.table, nil
	}
	t := r.tables[name]
	if t == nil {
		var err error
		if t, err = Compile(r.candidate.rules(name), r.candidate.Now); err != nil {
			return nil, fmt.Errorf("replay policy %s: %w", name, err)
		}
		r.tables[name] = t
	}
	r.last.policy, r.last.table = name, t
	return t, nil
}

// rules are the effective ones of a policy.
func (c Candidate) rules(name string) []Rule {
	own := func(n string) []Rule {
		if rules, ok := c.Rules[n]; ok {
			return rules
		}
		if c.State == nil {
			return nil
		}
		return c.State.Policy(n).Rules
	}
	if name == Everyone {
		return own(name)
	}
	return slices.Concat(own(name), own(Everyone))
}

func (r *Replay) seen(ns int64) {
	if r.firstNs == 0 || ns < r.firstNs {
		r.firstNs = ns
	}
	r.lastNs = max(r.lastNs, ns)
}

func (r *Replay) changed(k groupKey, rule uint32, f *schemas.Flow) {
	if k.denied() {
		r.out.Denied += f.GetCount()
	} else {
		r.out.Allowed += f.GetCount()
	}
	g := r.groups[k]
	if g == nil {
		if len(r.groups) >= MaxGroups {
			r.out.Truncated = true
			return
		}
		g = &groupSum{rule: rule, firstNs: f.GetTimeNs()}
		r.groups[k] = g
	}
	g.count += f.GetCount()
	g.firstNs, g.lastNs = min(g.firstNs, f.GetTimeNs()), max(g.lastNs, f.GetTimeNs())
	if comm := f.GetComm(); comm != "" && len(g.processes) < maxProcesses && !slices.Contains(g.processes, comm) {
		g.processes = append(g.processes, comm)
	}
}

// denied tells a new denial, or a new would-be denial, from a new allowance.
func (k groupKey) denied() bool { return severity[k.after] > severity[k.before] }

// severity orders verdicts by how much they stop.
var severity = [...]int{VerdictNone: 0, VerdictAllow: 0, VerdictWouldDeny: 1, VerdictDeny: 2}

// Result is what was found so far.
func (r *Replay) Result() Result {
	out := r.out
	out.FirstSeen, out.LastSeen = unixTime(r.firstNs), unixTime(r.lastNs)
	out.Unchanged = map[Verdict]uint64{}
	for v, n := range r.unchanged {
		if n > 0 {
			out.Unchanged[Verdict(v)] = n
		}
	}
	for k, g := range r.groups {
		e := Group{k.policy, k.workload, k.attempt, k.dst, k.proto, k.port, k.before, k.after, g.rule, g.count,
			unixTime(g.firstNs), unixTime(g.lastNs), slices.Clone(g.processes)}
		if k.denied() {
			out.NewlyDenied = append(out.NewlyDenied, e)
		} else {
			out.NewlyAllowed = append(out.NewlyAllowed, e)
		}
	}
	slices.SortFunc(out.NewlyDenied, compareGroups)
	slices.SortFunc(out.NewlyAllowed, compareGroups)
	return out
}

func compareGroups(a, b Group) int {
	return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Workload, b.Workload),
		cmp.Compare(a.Attempt, b.Attempt), a.Dst.Compare(b.Dst), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port),
		cmp.Compare(a.Before, b.Before), cmp.Compare(a.After, b.After))
}

func unixTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
