package enforcer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/enforcer/cut"
	"github.com/egresswarden/egresswarden/policy"
)

// Which connections are looked at, and when:
//
//   - of the workloads whose rules or mode a revision changed (cutOf), and of
//     those for which a timed rule ended (cutExpired);
//   - of all when this process has started over running containers, once the
//     log and the files are in force (startOver);
//   - of a container whose cgroups the gate has just been told (covered).
//
// The kernel's own verdict says what is refused. An event of the log may ask to
// keep what is established: that holds, over a restart too, until the next
// change of the workload's policies or mode, or the end of a timed rule.

const (
	// cutters is how many containers are looked at at once.
	cutters = 4
	// lookAgain is how long after a look another one follows: a connect that
	// was allowed just before the change may not have been a connection yet.
	lookAgain = 200 * time.Millisecond
	// appliedWait bounds how long somebody waits for what a revision did.
	appliedWait = 5 * time.Second
)

// cutOf has the connections of workloads looked at.
func (e *Enforcer) cutOf(workloads []string, revision uint64, keep func(workload string) bool) {
	if e.cutter.begun() {
		e.cutBlocked(revision, keep, among(workloads))
	}
}

// cutExpired has the connections of workloads looked at for which a timed rule
// ended: with or without the log.
func (e *Enforcer) cutExpired(workloads []string) {
	e.cutBlocked(e.ledger.standing().revision, func(string) bool { return false }, among(workloads))
}

func among(workloads []string) func(*Container) bool {
	return func(c *Container) bool { return slices.Contains(workloads, c.Workload) }
}

// startOver has the connections of all looked at, the first time.
func (e *Enforcer) startOver() {
	if !e.ledger.read(func(*policy.State) {}) || !e.cutter.begin() {
		return
	}
	e.cutBlocked(e.ledger.standing().revision, e.registry.Desired().keeps, func(*Container) bool { return true })
}

// covered has the connections of a container looked at.
func (e *Enforcer) covered(id string) {
	if !e.cutter.begun() {
		return
	}
	e.cutBlocked(e.ledger.standing().revision, e.registry.Desired().keeps, func(c *Container) bool { return c.ID == id })
}

func (e *Enforcer) cutBlocked(revision uint64, keep func(string) bool, which func(*Container) bool) {
	j := cutJob{from: revision, to: revision, keep: map[string]bool{}}
	for _, c := range e.registry.blocked(which) {
		j.keep[c.ID] = keep(c.Workload)
	}
	e.cutter.add(j)
}

// blocked are the containers in mode block that were seen to run.
func (r *registry) blocked(which func(*Container) bool) (out []Container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.containers {
		if c.Mode == policy.ModeBlock && c.cgroup != "" && which(c) {
			out = append(out, *c)
		}
	}
	return out
}

// runCutter looks until ctx ends.
func (e *Enforcer) runCutter(ctx context.Context) error {
	again, late := time.NewTimer(lookAgain), map[string]bool{}
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
			e.look(&cutJob{to: e.ledger.standing().revision, keep: late})
			late = map[string]bool{}
		case <-e.cutter.wake:
			j := e.cutter.take()
			if j == nil {
				continue
			}
			e.look(j)
			e.cutter.done(*j)
			if len(late) == 0 {
				again.Reset(lookAgain)
			}
			for id, keep := range j.keep {
				if !keep { // to be kept is counted once
					late[id] = false
				}
			}
		}
	}
}

// look does a job. What fails is told, and stops nothing else.
func (e *Enforcer) look(j *cutJob) {
	if len(j.keep) == 0 || !e.gate.Attached() {
		return
	}
	var mu sync.Mutex
	var first error
	var g errgroup.Group
	g.SetLimit(cutters)
	for _, c := range e.registry.blocked(func(c *Container) bool { _, ok := j.keep[c.ID]; return ok }) {
		keep := j.keep[c.ID]
		g.Go(func() error {
			n, err := e.connections(c, keep)
			e.toldCut(c, j.to, n, keep)
			mu.Lock()
			defer mu.Unlock()
			if keep {
				j.kept += n
			} else {
				j.cut += n
			}
			if err != nil && first == nil {
				first = fmt.Errorf("container %s: %w", c.Name, err)
			}
			return nil
		})
	}
	_ = g.Wait() // no error is returned
	if e.problems.set("connections", first) && first != nil {
		e.report.add(warn("connections.standing", "connections that the policy refuses may go on, new ones are refused", first))
	}
}

// connections cuts, or counts, what a container is refused.
func (e *Enforcer) connections(c Container, keep bool) (int, error) {
	tree, err := cgroupTree(c.cgroup)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // the container has ended
	}
	if err != nil {
		return 0, err
	}
	return cut.Connections(cut.Target{
		Cgroups: tree, Keep: keep,
		Refused: func(dst netip.Addr, proto policy.Proto, port uint16) (bool, error) {
			d, err := e.gate.Judge(c.Index, dst, proto, port)
			return d.Verdict == policy.VerdictDeny, err
		},
	})
}

// toldCut tells how many connections of a container were cut or kept.
func (e *Enforcer) toldCut(c Container, revision uint64, n int, kept bool) {
	if n == 0 {
		return
	}
	h := hostEvent{
		Kind: "connections.cut", Severity: "info", Message: "connections that the policy refuses now were cut", Revision: revision,
		Workload: c.Workload, Policy: c.Workload, Container: c.Name, ContainerID: c.ID, Count: uint64(n),
	}
	if kept {
		h.Kind, h.Message = "connections.kept", "connections that the policy refuses now were kept, as an operator asked"
	}
	e.report.add(h)
}

// AppliedRequest asks what a revision of the policy log did to a host.
type AppliedRequest struct {
	Revision uint64 `json:"revision"`
}

// Applied is the answer, once the revision is in force.
type Applied struct {
	// Cut and Kept are connections that the policy refuses now. Where several
	// revisions came at once, they are those of all.
	Cut  int `json:"cut"`
	Kept int `json:"kept"`
}

func (e *Enforcer) answerApplied(ctx context.Context, request []byte) ([]byte, error) {
	var q AppliedRequest
	if err := json.Unmarshal(request, &q); err != nil {
		return nil, fmt.Errorf("question not understood: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, appliedWait)
	defer cancel()
	cut, kept, err := e.cutter.wait(ctx, q.Revision)
	if err != nil {
		return nil, fmt.Errorf("revision %d is not in force yet: it is at %d", q.Revision, e.ledger.standing().revision)
	}
	return encodeAnswer(Applied{cut, kept})
}
