package enforcer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/version"
	"github.com/egresswarden/egresswarden/policy"
)

// The questions that an enforcer answers, see eventlog's Ask.
const (
	AskStatus  = "status"
	AskExplain = "explain"
	AskApplied = "applied"
)

// Status is how a host stands.
type Status struct {
	Host    string    `json:"host"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// Docker tells whether its event stream stands.
	Docker bool `json:"docker"`
	// Enforcing tells whether the gate is attached.
	Enforcing bool `json:"enforcing"`
	// Revision is the policy log's, as far as it is in force here.
	Revision       uint64           `json:"revision"`
	UnknownMode    policy.Mode      `json:"unknown_container"`
	BirthsKnown    uint64           `json:"births_known"`
	BirthsUnknown  uint64           `json:"births_unknown"`
	EventsWaiting  bool             `json:"events_waiting"`
	Workloads      []WorkloadStatus `json:"workloads"`
	UnknownCounter Counters         `json:"unknown_decisions"`
	// Open is what this host's kernel lets nobody refuse.
	Open []string `json:"open,omitempty"`
	// Problems are what keeps the host from being as the log says.
	Problems []string `json:"problems,omitempty"`
}

// WorkloadStatus is one workload with all its containers.
type WorkloadStatus struct {
	Workload string      `json:"workload"`
	Mode     policy.Mode `json:"mode"`
	ModeFrom string      `json:"mode_from"`
	Rules    int         `json:"rules"`
	Revision uint64      `json:"revision"`
	// Degraded: it is judged, and something of a container that runs is open.
	Degraded   bool              `json:"degraded,omitempty"`
	Decisions  Counters          `json:"decisions"`
	Containers []ContainerStatus `json:"containers"`
}

// ContainerStatus is one container with its counters.
type ContainerStatus struct {
	Container
	// Network is what it sends by: the kinds of its devices, such as veth, or
	// host, none, or with "of NAME" whose network it shares.
	Network string `json:"network,omitempty"`
	// Open lists what the gate does not cover for this container, why, and the
	// cure.
	Open      []string `json:"open,omitempty"`
	Decisions Counters `json:"decisions"`
}

// Counters are decisions by verdict, and how many of them the flow table could
// not hold in detail.
type Counters struct {
	Allow     uint64 `json:"allow"`
	Deny      uint64 `json:"deny"`
	WouldDeny uint64 `json:"would_deny"`
	Overflow  uint64 `json:"overflow"`
}

func (c *Counters) add(d Counters) {
	c.Allow += d.Allow
	c.Deny += d.Deny
	c.WouldDeny += d.WouldDeny
	c.Overflow += d.Overflow
}

// since is what came on top of a base.
func (c Counters) since(base Counters) Counters {
	less := func(a, b uint64) uint64 { return a - min(a, b) }
	return Counters{
		Allow: less(c.Allow, base.Allow), Deny: less(c.Deny, base.Deny),
		WouldDeny: less(c.WouldDeny, base.WouldDeny), Overflow: less(c.Overflow, base.Overflow),
	}
}

// ExplainRequest asks what the gate would do.
type ExplainRequest struct {
	Workload string       `json:"workload"`
	Dst      netip.Addr   `json:"dst"`
	Proto    policy.Proto `json:"proto"`
	Port     uint16       `json:"port"`
}

// Explanation is the gate's answer.
type Explanation struct {
	Host     string      `json:"host"`
	Workload string      `json:"workload"`
	Dst      netip.Addr  `json:"dst"`
	Proto    string      `json:"proto"`
	Port     uint16      `json:"port"`
	Mode     policy.Mode `json:"mode"`
	Verdict  string      `json:"verdict"`
	Rule     string      `json:"rule,omitempty"`
	RuleText string      `json:"rule_text"`
	Owner    string      `json:"owner,omitempty"`
	Source   string      `json:"source,omitempty"`
	Comment  string      `json:"comment,omitempty"`
	Revision uint64      `json:"revision"`
	// Judged is kernel, or policy where no container of the workload runs here.
	Judged string `json:"judged"`
	// Enforcing tells whether the gate is attached; if not, all is allowed.
	Enforcing bool `json:"enforcing"`
}

// ErrNoWorkload is a workload that this host does not know.
var ErrNoWorkload = fmt.Errorf("no such workload on this host: %w", eventlog.ErrNotFound)

// answer serves questions until ctx ends. Afterwards no handler runs, so that
// the gate can be closed.
func (e *Enforcer) answer(ctx context.Context, log *eventlog.Log) error {
	d := &door{}
	defer d.close()
	for name, fn := range map[string]eventlog.Handler{AskStatus: e.answerStatus, AskExplain: e.answerExplain, AskApplied: e.answerApplied} {
		err := e.untilItWorks(ctx, func() error {
			_, err := log.Handle(e.cfg.Host, name, d.guard(fn))
			return err
		})
		if err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// door lets handlers in until it is closed.
type door struct {
	mu     sync.RWMutex
	closed bool
}

var errEnding = errors.New("the enforcer is ending")

func (d *door) guard(fn eventlog.Handler) eventlog.Handler {
	return func(ctx context.Context, request []byte) (answer []byte, err error) {
		if !d.enter(func() { answer, err = fn(ctx, request) }) {
			return nil, errEnding
		}
		return answer, err
	}
}

// enter runs fn inside, unless the door is closed.
func (d *door) enter(fn func()) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if !d.closed {
		fn()
	}
	return !d.closed
}

// close returns when nobody is inside any more.
func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
}

func (e *Enforcer) answerStatus(context.Context, []byte) ([]byte, error) {
	return encodeAnswer(e.Status())
}

func (e *Enforcer) answerExplain(_ context.Context, req []byte) ([]byte, error) {
	var q ExplainRequest
	if err := json.Unmarshal(req, &q); err != nil {
		return nil, fmt.Errorf("question not understood: %w", err)
	}
	x, err := e.Explain(q)
	if err != nil {
		return nil, err
	}
	return encodeAnswer(x)
}

// Status reads the counters of the kernel and the state of the registry.
func (e *Enforcer) Status() Status {
	s := Status{
		Host: e.cfg.Host, Version: version.String(), Started: e.started, Docker: e.docker.Load(), Enforcing: e.gate.Attached(),
		Revision: e.ledger.standing().revision, UnknownMode: e.cfg.unknownMode(), EventsWaiting: e.pump.written.Load() != e.pump.acked.Load(),
		UnknownCounter: e.counters(0), Problems: e.problems.list(),
	}
	err := e.gate.LacksSocketCreate()
	if err != nil {
		s.Open = append(s.Open, "packet sockets are refused at the links of containers alone: "+err.Error())
	}
	if s.BirthsKnown, s.BirthsUnknown, err = e.gate.Births(); err != nil {
		e.log.Warn("births not read", "err", err)
	}
	walls, err := bpf.Walled(e.cfg.Pins)
	if err != nil {
		e.log.Warn("walls not read", "err", err) // none is taken to stand
	}
	by := map[string]*WorkloadStatus{}
	for _, c := range e.registry.List() {
		w, ok := by[c.Workload]
		if !ok {
			w = e.registry.workload(c)
			by[c.Workload] = w
		}
		cs := ContainerStatus{Container: c, Decisions: e.counters(c.Index).since(c.Base)}
		cs.Base = Counters{} // of no use to a reader
		e.placement(&cs, walls)
		w.Degraded = w.Degraded || c.Running && c.Mode != policy.ModeAllow && len(cs.Open) > 0
		w.Decisions.add(cs.Decisions)
		w.Containers = append(w.Containers, cs)
	}
	for _, w := range by {
		s.Workloads = append(s.Workloads, *w)
	}
	slices.SortFunc(s.Workloads, func(a, b WorkloadStatus) int { return compareStrings(a.Workload, b.Workload) })
	return s
}

func (e *Enforcer) counters(index uint32) Counters {
	c, err := e.registry.counted(index)
	if err != nil {
		e.log.Warn("counters not read", "err", err)
	}
	return c
}

// workload tells mode and policy of a container's workload.
func (r *registry) workload(c Container) *WorkloadStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &WorkloadStatus{Workload: c.Workload, Mode: c.Mode, ModeFrom: "default"}
	if c.Labelled {
		w.ModeFrom = "label"
	}
	if _, ok := r.desired.Modes[c.Workload]; ok {
		w.ModeFrom = "operator"
	}
	if c.Problem != "" {
		w.ModeFrom = "invalid label"
	}
	if c.Workload == "" {
		w.ModeFrom = "a former enforcer"
	}
	if sl, ok := r.slots.byName[c.Workload]; ok {
		w.Rules, w.Revision = len(sl.rules), sl.revision
	}
	return w
}

// Explain judges with the kernel's own tables where a container of the
// workload is known, else with the same tables compiled here.
func (e *Enforcer) Explain(q ExplainRequest) (Explanation, error) {
	q.Dst = policy.Canonical(q.Dst)
	x := Explanation{Host: e.cfg.Host, Workload: q.Workload, Dst: q.Dst, Proto: q.Proto.String(), Port: q.Port, Enforcing: e.gate.Attached()}
	set := e.registry.Desired()
	rules := slices.Concat(set.Rules[q.Workload], set.Rules[policy.Everyone])
	c, known := e.registry.ofWorkload(q.Workload)
	if !known {
		if len(set.Rules[q.Workload]) == 0 {
			return x, fmt.Errorf("%w: %q", ErrNoWorkload, q.Workload)
		}
		x.Revision = max(set.Revision[q.Workload], set.Revision[policy.Everyone])
		return x, x.compiled(rules, q)
	}
	d, err := e.gate.Judge(c.Index, q.Dst, q.Proto, q.Port)
	if err != nil {
		return x, err
	}
	x.Mode, x.Judged, x.Revision = c.Mode, "kernel", d.Revision
	x.decide(d.Verdict, d.Rule, slices.Concat(e.registry.live(q.Workload), rules))
	return x, nil
}

// compiled judges where no container of the workload is, as block would.
func (x *Explanation) compiled(rules []policy.Rule, q ExplainRequest) error {
	table, err := policy.Compile(rules, time.Now())
	if err != nil {
		return err
	}
	verdict, match := policy.Judge(table, policy.ModeBlock, policy.Request{Dst: q.Dst, Proto: q.Proto, Port: q.Port})
	x.Mode, x.Judged = policy.ModeBlock, "policy"
	x.decide(verdict, match.Rule, rules)
	return nil
}

// decide notes the verdict and what it is from.
func (x *Explanation) decide(verdict policy.Verdict, rule uint32, rules []policy.Rule) {
	x.Verdict = verdict.String()
	switch {
	case verdict != policy.VerdictNone:
		x.name(rule, rules)
	case x.Mode == policy.ModeAllow:
		x.RuleText = "mode allow: nothing is judged"
	default:
		x.RuleText = "loopback: it cannot leave the container, and is not judged"
	}
}

// live are the rules that a workload's table in force was compiled from.
func (r *registry) live(workload string) []policy.Rule {
	r.mu.Lock()
	defer r.mu.Unlock()
	if sl, ok := r.slots.byName[workload]; ok {
		return sl.rules
	}
	return nil
}

// name puts the rule that decided into words.
func (x *Explanation) name(number uint32, rules []policy.Rule) {
	if text, ok := policy.ImplicitRule(number); ok {
		x.RuleText = text
		return
	}
	for _, r := range rules {
		if r.Number() == number {
			x.Rule, x.RuleText, x.Owner, x.Source, x.Comment = r.ID, r.String(), r.Owner, r.Source, r.Comment
			return
		}
	}
	x.Rule, x.RuleText = fmt.Sprintf("%08x", number), "a rule that was changed meanwhile"
}

// ofWorkload finds a container of a workload; one that is judged is preferred.
func (r *registry) ofWorkload(workload string) (Container, bool) {
	var found Container
	ok := false
	for _, c := range r.List() {
		if c.Workload == workload && (!ok || found.Mode == policy.ModeAllow) {
			found, ok = c, true
		}
	}
	return found, ok
}
