package enforcer

import (
	"errors"
	"strings"
	"time"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/internal/telemetry"
	"github.com/egresswarden/egresswarden/policy"
)

// roomWait bounds the question of a scrape to the event log.
const roomWait = time.Second

// Instrument puts this enforcer's metrics and checks into a set. They hold no
// label that grows with containers, workloads or destinations.
func (e *Enforcer) Instrument(s *telemetry.Set) {
	r := telemetry.NewReadings("egw_enforcer_", e.readMetrics)
	r.Counter("decisions_total", "Decisions as the kernel counts them, whoever made them.", "verdict")
	r.Counter("overflow_decisions_total", "Decisions that the flow table could not hold in detail; part of decisions_total.", "verdict")
	r.Counter("births_total", "Containers' cgroups made, by whether the container was known before.", "known")
	r.Counter("events_published_total", "Flow events handed to the event log by this process.")
	r.Gauge("host_events_dropped", "Host events that found the queue full; an event will tell how many.")
	r.Gauge("ring_pending_bytes", "Bytes of the ring that the event log has not acknowledged.")
	r.Gauge("ring_size_bytes", "Size of the ring; when it is full, counts wait in the flow table.")
	r.Gauge("flow_stream_bytes", "Bytes in the stream EGW_FLOWS.")
	r.Gauge("flow_stream_max_bytes", "Bound of the stream EGW_FLOWS; -1 is none. At the bound the oldest allowed flows go, with an event.")
	r.Gauge("flow_stream_messages", "Packs of flow events in the stream EGW_FLOWS.")
	r.Gauge("policy_revision", "Revision of the policy log that was followed, and that is applied.", "state")
	r.Gauge("containers", "Containers that the gate knows, by mode.", "mode")
	r.Gauge("containers_mislabelled", "Containers whose labels are not understood; they are blocked.")
	r.Gauge("workloads", "Workloads that the gate knows, by mode; one with several counts in each.", "mode")
	r.Gauge("problems", "What keeps the host from being as the log says, by kind.", "problem")
	r.Gauge("enforcing", "1 while the gate is attached.")
	r.Gauge("docker_connected", "1 while Docker's event stream stands.")
	r.Gauge("eventlog_connected", "1 while the event log is connected.")
	s.Register(r)
	for name, check := range map[string]func() error{
		"gate": e.gateReady, "docker": e.dockerReady, "event_log": e.eventLogReady, "policy": e.policyReady, "problems": e.problemsReady,
	} {
		s.Check(name, e.open(check))
	}
}

// open looks only while the gate is open.
func (e *Enforcer) open(check telemetry.Check) telemetry.Check {
	return func() (err error) {
		if !e.scrapes.enter(func() { err = check() }) {
			return errEnding
		}
		return err
	}
}

type tellFunc = func(name string, value float64, labels ...string)

func (e *Enforcer) readMetrics(tell tellFunc) {
	e.scrapes.enter(func() {
		e.readGate(tell)
		e.readEventLog(tell)
		e.readPolicy(tell)
		tell("docker_connected", number(e.docker.Load()))
	})
}

// counted is what of the gate may fail to be read.
type counted interface {
	Totals() (decided, overflow bpf.Counters, err error)
	Births() (known, unknown uint64, err error)
}

func (e *Enforcer) readGate(tell tellFunc) {
	e.readCounters(e.gate, tell)
	tell("enforcing", number(e.gate.Attached()))
	tell("ring_pending_bytes", float64(e.gate.Ring().Pending()))
	tell("ring_size_bytes", float64(e.gate.Ring().Size()))
}

// readCounters leaves out what cannot be read, which is a problem: a counter
// that falls to 0 would read as decisions made anew.
func (e *Enforcer) readCounters(g counted, tell tellFunc) {
	decided, overflow, err := g.Totals()
	if err == nil {
		tellVerdicts(tell, "decisions_total", decided)
		tellVerdicts(tell, "overflow_decisions_total", overflow)
	}
	known, unknown, birthErr := g.Births()
	if birthErr == nil {
		tell("births_total", float64(known), "true")
		tell("births_total", float64(unknown), "false")
	}
	if err = errors.Join(err, birthErr); e.problems.set("counters", err) && err != nil {
		e.log.Warn("counters not read", "err", err)
	}
}

func tellVerdicts(tell tellFunc, name string, c bpf.Counters) {
	tell(name, float64(c.Allow), policy.VerdictAllow.String())
	tell(name, float64(c.Deny), policy.VerdictDeny.String())
	tell(name, float64(c.WouldDeny), policy.VerdictWouldDeny.String())
}

func (e *Enforcer) readEventLog(tell tellFunc) {
	tell("events_published_total", float64(e.pump.events.Load()))
	tell("host_events_dropped", float64(e.report.dropped.Load()))
	tell("eventlog_connected", number(e.eventLogReady() == nil))
	log := e.events.Load()
	if log == nil {
		return
	}
	room, err := log.Room(roomWait)
	if err != nil {
		return // eventlog_connected tells, or the next scrape
	}
	tell("flow_stream_bytes", float64(room.Bytes))
	tell("flow_stream_max_bytes", float64(room.MaxBytes))
	tell("flow_stream_messages", float64(room.Messages))
}

func (e *Enforcer) readPolicy(tell tellFunc) {
	followed := uint64(0)
	e.ledger.read(func(s *policy.State) { followed = s.Revision() })
	tell("policy_revision", float64(followed), "followed")
	tell("policy_revision", float64(e.ledger.standing().revision), "applied")
	modes := []policy.Mode{policy.ModeAllow, policy.ModeLearn, policy.ModeBlock}
	containers, workloads, mislabelled := map[policy.Mode]int{}, map[policy.Mode]int{}, 0
	seen := map[[2]string]bool{}
	for _, c := range e.registry.List() {
		containers[c.Mode]++
		if w := [2]string{c.Mode.String(), c.Workload}; !seen[w] {
			seen[w] = true
			workloads[c.Mode]++
		}
		if c.Problem != "" {
			mislabelled++
		}
	}
	for _, m := range modes {
		tell("containers", float64(containers[m]), m.String())
		tell("workloads", float64(workloads[m]), m.String())
	}
	tell("containers_mislabelled", float64(mislabelled))
	for kind, n := range e.problems.kinds() {
		tell("problems", float64(n), kind)
	}
}

// problemKinds are the words that keys of problems begin with; what is not
// among them is "other".
var problemKinds = []string{"allow-list", "connections", "counters", "dns", "docker", "event log", "gate", "policy log", "snapshot"}

// kinds counts the problems by kind; those that there are none of are there
// with 0.
func (p *problems) kinds() map[string]int {
	count := map[string]int{"other": 0}
	for _, kind := range problemKinds {
		count[word(kind)] = 0
	}
	for _, key := range p.keys() {
		count[kindOf(key)]++
	}
	return count
}

func kindOf(key string) string {
	for _, kind := range problemKinds {
		if key == kind || strings.HasPrefix(key, kind+" ") {
			return word(kind)
		}
	}
	return "other"
}

func word(kind string) string { return strings.NewReplacer(" ", "_", "-", "_").Replace(kind) }

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func (e *Enforcer) gateReady() error {
	if e.gate.Attached() {
		return nil
	}
	return errors.Join(errors.New("the gate is not attached: nothing is enforced"), e.problems.get("gate"))
}

func (e *Enforcer) dockerReady() error {
	if e.docker.Load() {
		return nil
	}
	return errors.Join(errors.New("docker's event stream does not stand: new containers are unknown"), e.problems.get("docker"))
}

func (e *Enforcer) eventLogReady() error {
	if log := e.events.Load(); log != nil {
		return errors.Join(log.Connected(), e.problems.get(problemStore))
	}
	return errors.Join(errors.New("the event log was not reached yet: decisions wait in the kernel"), e.problems.get("event log"))
}

func (e *Enforcer) policyReady() error {
	if err := e.problems.get("policy log"); err != nil {
		return err
	}
	if !e.ledger.read(func(*policy.State) {}) {
		return errors.New("the policy log was not read yet: the last good policy is enforced")
	}
	return nil
}

// problemsReady tells of those that no other check does.
func (e *Enforcer) problemsReady() error {
	var errs []error
	for _, text := range e.problems.list() {
		key, _, _ := strings.Cut(text, ": ")
		switch kindOf(key) {
		case "docker", "event_log", "gate", "policy_log":
		default:
			errs = append(errs, errors.New(text))
		}
	}
	return errors.Join(errs...)
}
