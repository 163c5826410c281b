package learner

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/egresswarden/egresswarden/internal/telemetry"
	"github.com/egresswarden/egresswarden/policy"
)

// gauges are the numbers of the last look for proposals, kept apart so that no
// scrape waits for the next.
type gauges struct {
	revision, covered, policies, workloads, destinations, open, interruptions atomic.Uint64
	planSeconds                                                               atomic.Uint64 // bits of a float64
}

// note takes the numbers of a learner that nobody else uses now.
func (g *gauges) note(l *Learner, planned time.Duration) {
	g.revision.Store(l.state.Revision())
	g.covered.Store(l.covered)
	g.policies.Store(uint64(len(l.evidence.policies)))
	g.workloads.Store(uint64(len(l.evidence.workloads)))
	g.destinations.Store(uint64(l.evidence.total))
	g.open.Store(uint64(len(l.state.Proposals("", policy.StatusOpen))))
	g.planSeconds.Store(math.Float64bits(planned.Seconds()))
}

// instrument puts the metrics and checks into a set.
func (s *service) instrument(set *telemetry.Set) {
	r := telemetry.NewReadings("egw_learner_", func(tell func(string, float64, ...string)) {
		g := &s.gauges
		for name, v := range map[string]*atomic.Uint64{
			"policy_revision": &g.revision, "flow_sequence": &g.covered, "policies": &g.policies, "workloads": &g.workloads,
			"destinations": &g.destinations, "open_proposals": &g.open, "interruptions_total": &g.interruptions,
		} {
			tell(name, float64(v.Load()))
		}
		tell("plan_seconds", math.Float64frombits(g.planSeconds.Load()))
	})
	r.Gauge("policy_revision", "Revision of the policy log that was folded.")
	r.Gauge("flow_sequence", "Last message of the stream of flows that was taken.")
	r.Gauge("policies", "Policies with evidence.")
	r.Gauge("workloads", "Workloads with evidence.")
	r.Gauge("destinations", "Destinations of all policies that are remembered.")
	r.Gauge("open_proposals", "Proposals that wait for a decision.")
	r.Gauge("plan_seconds", "How long the last look for proposals took.")
	r.Counter("interruptions_total", "How often learning broke off and began anew.")
	set.Register(r)
	set.Check("learner_event_log", s.events.Connected)
	set.Check("learner", s.ready)
}
