package enforcer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"

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
// The looker does it, and soon again: see there.
//
// The kernel's own verdict says what is refused. An event of the log may ask to
// keep what is established: that holds, over a restart too, until the next
// change of the workload's policies or mode, or the end of a timed rule.

// appliedWait bounds how long somebody waits for what a revision did.
const appliedWait = 5 * time.Second

// cutOf has the connections of workloads looked at.
func (e *Enforcer) cutOf(workloads []string, revision uint64, keep func(workload string) bool) {
	e.lookAtDevices() // of several containers behind one it is the strictest's
	if e.cutter.begun() {
		e.cutBlocked(revision, keep, among(workloads))
	}
}

// lookAtDevices has the walls told of whose each device is.
func (e *Enforcer) lookAtDevices() {
	select {
	case e.placed <- struct{}{}:
	default: // they will be looked at
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

// covered has the connections of a container looked at, and its network devices.
func (e *Enforcer) covered(id string) {
	e.lookAtDevices()
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

// effect is the last event that changed what a workload lives under.
func (r *registry) effect(workload string) policy.Effect {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.desired.effect(workload)
}

// connections cuts, or counts, what a container is refused.
func (e *Enforcer) connections(c Container, keep bool) (int, error) {
	tree, err := e.registry.tree(c)
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
