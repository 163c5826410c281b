package enforcer

import (
	"context"
	"maps"
	"strconv"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// aliveEvery leaves room for other events in a host's history.
const aliveEvery = 5 * time.Minute

// heartbeat tells that this host is enforcing, and how it stands.
func (e *Enforcer) heartbeat(ctx context.Context, log *eventlog.Log) error {
	e.report.add(hostEvent{Kind: schemas.KindEnforcerStarted, Severity: "info", Message: "enforcer started", Detail: map[string]string{"boot": e.boot}})
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		// A log that does not tell how long it is is a problem of its own.
		end, err := log.PolicyRevision(ctx)
		if err != nil {
			end = e.ledger.standing().revision
		}
		e.report.add(e.alive(end, time.Now()))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// alive is the heartbeat: the revision in force besides the end of the log, so
// that alert rules find a host that is behind, and which workload has been
// learning for longest.
func (e *Enforcer) alive(logRevision uint64, now time.Time) hostEvent {
	problems := e.problems.list()
	revision := e.ledger.standing().revision
	detail := map[string]string{
		"revision":     strconv.FormatUint(revision, 10),
		"log_revision": strconv.FormatUint(logRevision, 10),
		"problems":     strconv.Itoa(len(problems)),
	}
	if len(problems) > 0 {
		detail["problem"] = problems[0]
	}
	c := e.registry.census(now)
	detail["containers"] = strconv.Itoa(c.containers)
	for _, m := range []policy.Mode{policy.ModeAllow, policy.ModeLearn, policy.ModeBlock} {
		detail["workloads_"+m.String()] = strconv.Itoa(c.workloads[m])
	}
	if c.learner != "" {
		detail["learning_workload"] = c.learner
		detail["learning_seconds"] = strconv.FormatInt(int64(c.learning/time.Second), 10)
	}
	return hostEvent{
		Kind: schemas.KindEnforcerAlive, Severity: "info", Message: "enforcer is alive", Revision: revision, Detail: detail,
	}
}

// census is what lives on the host.
type census struct {
	containers int
	// workloads are counted by their mode.
	workloads map[policy.Mode]int
	// learner is the workload that has been learning for longest.
	learner  string
	learning time.Duration
}

// census also keeps the time since when each workload learns. A container that
// is made anew between two looks does not set it back.
func (r *registry) census(now time.Time) census {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := census{containers: len(r.containers), workloads: map[policy.Mode]int{}}
	modes := map[string]policy.Mode{}
	for _, have := range r.containers {
		// Of containers in different modes the most open one counts.
		if mode, known := modes[have.Workload]; have.Workload != "" && (!known || have.Mode < mode) {
			modes[have.Workload] = have.Mode
		}
	}
	since := map[string]time.Time{}
	for workload, mode := range modes {
		c.workloads[mode]++
		if mode != policy.ModeLearn {
			continue
		}
		at, known := r.learning[workload]
		if !known {
			at = now
		}
		since[workload] = at
		if age := now.Sub(at); c.learner == "" || age > c.learning || age == c.learning && workload < c.learner {
			c.learner, c.learning = workload, age
		}
	}
	if !maps.EqualFunc(since, r.learning, time.Time.Equal) {
		r.learning = since
		r.touch()
	}
	return c
}
