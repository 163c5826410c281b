package enforcer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/policy"
)

// ledger is this host's fold of the policy log, shared by the follower that
// writes it and the importer that reads what files were last imported.
type ledger struct {
	mu    sync.Mutex
	state *policy.State
	// lost is true while the log is shorter than what is enforced here.
	lost atomic.Bool
}

// read looks at the fold; ok is false before there is one.
func (l *ledger) read(look func(*policy.State)) (ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != nil {
		look(l.state)
	}
	return l.state != nil
}

// put replaces the fold.
func (l *ledger) put(s *policy.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
}

// follow folds the policy log and puts every revision in force. When the log
// breaks off it folds anew; what was applied last stays in force meanwhile.
func (e *Enforcer) follow(ctx context.Context, log *eventlog.Log) error {
	for wait := reconnectMin; ctx.Err() == nil; wait = min(2*wait, reconnectMax) {
		err := e.followOnce(ctx, log)
		if err == nil {
			wait = reconnectMin
		} else if ctx.Err() == nil {
			e.report.add(warn("policylog.unreadable", "the policy log cannot be read, the last good policy stays", err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return ctx.Err()
}

func (e *Enforcer) followOnce(ctx context.Context, log *eventlog.Log) error {
	state, err := e.fold(ctx, log)
	if err != nil {
		return err
	}
	if e.isLost(state) {
		return e.waitForLog(ctx, log)
	}
	set := policies(state)
	e.ledger.put(state)
	e.put(set, state.Revision(), nil)
	for entry, err := range log.PolicyEvents(ctx, state.Revision()+1, true) {
		if errors.Is(err, eventlog.ErrMessage) {
			e.skip(entry.Revision, err)
			continue
		}
		if err != nil {
			return err
		}
		e.take(&set, entry)
	}
	return nil
}

// fold reads the log as it stands.
func (e *Enforcer) fold(ctx context.Context, log *eventlog.Log) (*policy.State, error) {
	state := policy.NewState()
	for entry, err := range log.PolicyEvents(ctx, 0, false) {
		if errors.Is(err, eventlog.ErrMessage) {
			e.skip(entry.Revision, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		state.Apply(entry.Revision, entry.Event)
	}
	return state, nil
}

// skip tells of an event that nobody can read: it changes nothing anywhere.
func (e *Enforcer) skip(revision uint64, err error) {
	e.skipped.Add(1)
	e.report.add(hostEvent{Kind: "policy.unreadable", Severity: "error", Message: "an event of the policy log cannot be read and has no effect", Revision: revision, Err: err.Error()})
}

// isLost tells whether the log is shorter than what is enforced here: it was
// wiped, or is another one.
func (e *Enforcer) isLost(state *policy.State) bool {
	lost := state.Revision() < e.foldRev.Load()
	if lost && !e.ledger.lost.Swap(true) {
		e.report.add(hostEvent{
			Kind: "policylog.lost", Severity: "error", Revision: e.foldRev.Load(),
			Message: "the policy log is shorter than what is enforced here: the last good revision stays in force; restore the log, or remove the snapshot and restart to accept the new one",
			Detail:  map[string]string{"log_revision": strconv.FormatUint(state.Revision(), 10)},
		})
	}
	if !lost && e.ledger.lost.Swap(false) {
		e.report.add(hostEvent{Kind: "policylog.back", Severity: "info", Message: "the policy log is back", Revision: state.Revision()})
	}
	return lost
}

// waitForLog gives a lost log time to be restored.
func (e *Enforcer) waitForLog(ctx context.Context, _ *eventlog.Log) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2 * time.Second):
		return nil
	}
}

// take folds one event and puts what it changed in force.
func (e *Enforcer) take(set *policySet, entry eventlog.PolicyEntry) {
	var out policy.Outcome
	e.ledger.read(func(state *policy.State) {
		out = state.Apply(entry.Revision, entry.Event)
		if len(out.Changes) > 0 {
			*set = set.with(state, touched(out))
		}
	})
	if out.Old {
		return
	}
	if out.Refused != "" {
		e.report.add(hostEvent{
			Kind: "policy.refused", Severity: "warn", Message: "an event of the policy log has no effect", Policy: entry.Event.GetPolicy(),
			Revision: entry.Revision, Err: out.Refused,
		})
	}
	if len(out.Changes) == 0 {
		e.foldRev.Store(entry.Revision)
		return
	}
	e.put(*set, entry.Revision, touched(out))
}

// touched are the policies that an event changed.
func touched(out policy.Outcome) map[string]bool {
	names := map[string]bool{}
	for _, c := range out.Changes {
		names[c.Policy] = true
	}
	return names
}

// put makes a set live and tells it.
func (e *Enforcer) put(set policySet, revision uint64, touched map[string]bool) {
	changed, err := e.registry.setPolicies(set, touched, time.Now())
	e.foldRev.Store(revision)
	select {
	case e.folded <- struct{}{}:
	default:
	}
	e.applied(changed, "the policy log", err)
}

// applied tells which workloads live under another policy or mode now.
func (e *Enforcer) applied(changed []string, by string, err error) {
	if err != nil {
		e.log.Error("policies not wholly applied", "err", err)
	}
	if len(changed) == 0 {
		return
	}
	e.report.add(hostEvent{
		Kind: "policy.applied", Severity: "info", Message: "policies are in force", Revision: e.foldRev.Load(),
		Detail: map[string]string{"workloads": listed(changed), "by": by},
	})
}

// listed names the first few.
func listed(names []string) string {
	const most = 20
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// policies is the set that a fold says.
func policies(state *policy.State) policySet {
	set := policySet{Rules: map[string][]policy.Rule{}, Revision: map[string]uint64{}}
	touched := map[string]bool{}
	for _, name := range state.Policies() {
		touched[name] = true
	}
	return set.with(state, touched)
}

// with is the set after the policies touched were changed. What is not touched
// is shared.
func (s policySet) with(state *policy.State, touched map[string]bool) policySet {
	next := policySet{Rules: cloneMap(s.Rules), Revision: cloneMap(s.Revision), Modes: map[string]policy.Mode{}}
	for name := range touched {
		p := state.Policy(name)
		next.Rules[name], next.Revision[name] = p.Rules, p.Revision
	}
	for _, o := range state.Modes() {
		next.Modes[o.Workload] = o.Mode
	}
	return next
}
