package enforcer

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

const (
	// cutters is how many containers are looked at at once.
	cutters = 4
	// lookAgain is how long after a look another one follows: a connect that
	// was allowed just before the change may not have been a connection yet.
	lookAgain = 200 * time.Millisecond
	// retryAfter is how long after a failure the container is looked at again.
	retryAfter = 30 * time.Second
)

// looker does the jobs of a cutter. Each container whose connections are to be
// cut is looked at twice, and again where that failed, until it works or the
// container has ended.
type looker struct {
	*cutter
	// attached tells whether anything is enforced.
	attached func() bool
	// blocked are the containers that have such connections.
	blocked func(which func(*Container) bool) []Container
	// effect is the last event that changed what a workload lives under.
	effect func(workload string) policy.Effect
	// connections cuts, or counts, what a container is refused.
	connections func(c Container, keep bool) (int, error)
	problems    *problems
	report      func(hostEvent)
	now         func() time.Time

	// late are the jobs to be looked at again, the first one first.
	late []lateJob
	// failed are the containers of which a look failed, with its revision.
	failed   map[string]uint64
	failedAt time.Time
}

// lateJob is a job with the time of its second look.
type lateJob struct {
	*cutJob
	due time.Time
}

// run looks until ctx ends.
func (l *looker) run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if next, ok := l.next(); ok {
			timer.Reset(next.Sub(l.now()))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.wake:
			l.first()
		case <-timer.C:
			l.second()
			l.retry()
		}
	}
}

// next is when something is to be looked at again.
func (l *looker) next() (at time.Time, ok bool) {
	if len(l.failed) > 0 {
		at, ok = l.failedAt.Add(retryAfter), true
	}
	if len(l.late) > 0 && (!ok || l.late[0].due.Before(at)) {
		at, ok = l.late[0].due, true
	}
	return at, ok
}

// first does the job that waits.
func (l *looker) first() {
	j := l.take()
	if j == nil {
		return
	}
	l.look(j, nil)
	for _, keep := range j.keep {
		if !keep {
			l.late = append(l.late, lateJob{j, l.now().Add(lookAgain)})
			return
		}
	}
	l.done(j) // to be kept is counted once
}

// second looks again at what is due. What it cuts counts for its jobs; where
// several are due at once, for the last one.
func (l *looker) second() {
	var due []*cutJob
	for len(l.late) > 0 && !l.late[0].due.After(l.now()) {
		due, l.late = append(due, l.late[0].cutJob), l.late[1:]
	}
	if len(due) == 0 {
		return
	}
	again, since := cutJob{keep: map[string]bool{}}, map[string]uint64{}
	for _, j := range due {
		again.to = max(again.to, j.to)
		for id, keep := range j.keep {
			if !keep {
				again.keep[id], since[id] = false, j.to
			}
		}
	}
	l.look(&again, since)
	due[len(due)-1].cut += again.cut
	l.done(due...)
}

// retry looks at the containers of which a look failed.
func (l *looker) retry() {
	if len(l.failed) == 0 || l.now().Before(l.failedAt.Add(retryAfter)) {
		return
	}
	again, since := cutJob{keep: map[string]bool{}}, l.failed
	l.failed = nil
	for id, revision := range since {
		again.keep[id], again.to = false, max(again.to, revision)
	}
	l.look(&again, since)
}

// look does a job. Of a container that is looked at again, what a later event
// than that of since asked to keep is kept. A failure is told, and stops nothing
// else.
func (l *looker) look(j *cutJob, since map[string]uint64) {
	if len(j.keep) == 0 {
		return
	}
	var found []Container
	if l.attached() {
		found = l.blocked(func(c *Container) bool { _, ok := j.keep[c.ID]; return ok })
	}
	l.forget(j, found)
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(cutters)
	for _, c := range found {
		keep := j.keep[c.ID]
		g.Go(func() error {
			n, err := 0, error(nil)
			if from, again := since[c.ID]; !again || !l.keptSince(c, from) {
				n, err = l.connections(c, keep)
			}
			mu.Lock()
			defer mu.Unlock()
			l.told(c, j.to, n, keep)
			l.note(c, j.to, err)
			if keep {
				j.kept += n
			} else {
				j.cut += n
			}
			return nil
		})
	}
	_ = g.Wait() // no error is returned
}

func (l *looker) keptSince(c Container, revision uint64) bool {
	e := l.effect(c.Workload)
	return e.Keep && e.Revision > revision
}

// connectionsKey is the key of the problem that a container has.
func connectionsKey(id string) string { return "connections " + short(id) }

// forget ends the problems of containers that have no such connections any more.
func (l *looker) forget(j *cutJob, found []Container) {
	for id := range j.keep {
		if !slices.ContainsFunc(found, func(c Container) bool { return c.ID == id }) {
			delete(l.failed, id)
			l.problems.set(connectionsKey(id), nil)
		}
	}
}

// note tells how a look went.
func (l *looker) note(c Container, revision uint64, err error) {
	if err == nil {
		delete(l.failed, c.ID)
		l.problems.set(connectionsKey(c.ID), nil)
		return
	}
	if len(l.failed) == 0 {
		l.failed, l.failedAt = map[string]uint64{}, l.now()
	}
	l.failed[c.ID] = max(l.failed[c.ID], revision)
	err = fmt.Errorf("container %s: %w", c.Name, err)
	if l.problems.set(connectionsKey(c.ID), err) {
		h := warn(schemas.KindConnectionsStanding, "connections that the policy refuses may go on, new ones are refused", err)
		h.Workload, h.Policy, h.Container, h.ContainerID = c.Workload, c.Workload, c.Name, c.ID
		l.report(h)
	}
}

// told tells how many connections of a container were cut or kept.
func (l *looker) told(c Container, revision uint64, n int, kept bool) {
	if n == 0 {
		return
	}
	h := hostEvent{
		Kind: schemas.KindConnectionsCut, Severity: "info", Message: "connections that the policy refuses now were cut", Revision: revision,
		Workload: c.Workload, Policy: c.Workload, Container: c.Name, ContainerID: c.ID, Count: uint64(n),
	}
	if kept {
		h.Kind, h.Message = schemas.KindConnectionsKept, "connections that the policy refuses now were kept, as an operator asked"
	}
	l.report(h)
}

// runCutter looks until ctx ends.
func (e *Enforcer) runCutter(ctx context.Context) error {
	l := &looker{
		cutter: &e.cutter, attached: e.gate.Attached, blocked: e.registry.blocked, effect: e.registry.effect,
		connections: e.connections, problems: &e.problems, report: e.report.add, now: time.Now,
	}
	return l.run(ctx)
}
