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

	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// ledger is this host's fold of the policy log, shared by the follower that
// writes it and the importer that reads what files were last imported.
type ledger struct {
	mu    sync.Mutex
	state *policy.State
	at    standing
	// lost is true while the log is not the one that is enforced here.
	lost atomic.Bool
}

// standing is how far the policy log is in force here.
type standing struct {
	revision uint64
	// mark tells the event at the revision from that of another log.
	mark string
}

func (l *ledger) standing() standing {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at
}

func (l *ledger) stand(revision uint64, mark string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = standing{revision, mark}
}

// markOf is what no other event at the same revision of another log has.
func markOf(e *schemas.PolicyEvent) string {
	return fmt.Sprintf("%d %s %s", e.GetTimeNs(), e.GetPolicy(), e.GetActor())
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
		err := e.followOnce(ctx, log, func() { wait = reconnectMin })
		if ctx.Err() == nil && e.problems.set("policy log", err) && err != nil && !errors.Is(err, errLost) {
			e.report.add(warn(schemas.KindPolicyLogUnreadable, "the policy log cannot be followed, the last good policy stays", err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return ctx.Err()
}

// followOnce returns nil when the log is to be folded anew. It calls up when
// the log is in force.
func (e *Enforcer) followOnce(ctx context.Context, log *eventlog.Log, up func()) error {
	f, err := e.fold(ctx, log)
	if errors.Is(err, eventlog.ErrNotFound) {
		if e.ledger.standing().revision == 0 {
			return errors.Join(err, log.MakeStreams(ctx))
		}
		err = nil // as an empty log; the stream is not made, for somebody may be about to restore it
	}
	if err != nil {
		return err
	}
	if err := e.checkLost(f); err != nil {
		return err
	}
	set := policies(f.state)
	e.ledger.put(f.state)
	e.put(set, standing{f.state.Revision(), f.last}, nil)
	if e.cfg.Policies == "" {
		e.startOver()
	}
	e.problems.set("policy log", nil)
	up()
	return e.followOn(ctx, log, set, f.state.Revision())
}

// followOn takes what is appended, as long as the log does not shrink.
func (e *Enforcer) followOn(ctx context.Context, log *eventlog.Log, set policySet, from uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var g errgroup.Group
	g.Go(func() error {
		defer cancel()
		return e.watchShrink(ctx, log)
	})
	g.Go(func() error {
		defer cancel()
		return e.takeAll(ctx, log, set, from)
	})
	return g.Wait()
}

func (e *Enforcer) takeAll(ctx context.Context, log *eventlog.Log, set policySet, from uint64) error {
	for entry, err := range log.PolicyEvents(ctx, from+1, true) {
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

// shrinkEvery is how often the length of the log is looked at.
var shrinkEvery = 2 * time.Second

// watchShrink returns when the log has become shorter than what was folded: a
// reader behind its end would wait for ever.
func (e *Enforcer) watchShrink(ctx context.Context, log *eventlog.Log) error {
	tick := time.NewTicker(shrinkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		at := e.ledger.standing().revision
		end, err := log.PolicyRevision(ctx)
		if errors.Is(err, eventlog.ErrNotFound) || err == nil && end < at {
			return nil
		}
	}
}

// folding is the log as it stands.
type folding struct {
	state *policy.State
	// last and stood are the marks of the last event, and of the one at the
	// revision that is in force here.
	last, stood string
}

// fold reads the log as it stands.
func (e *Enforcer) fold(ctx context.Context, log *eventlog.Log) (folding, error) {
	f := folding{state: policy.NewState()}
	at := e.ledger.standing().revision
	for entry, err := range log.PolicyEvents(ctx, 0, false) {
		if errors.Is(err, eventlog.ErrMessage) {
			e.skip(entry.Revision, err)
			continue
		}
		if err != nil {
			return f, err
		}
		f.state.Apply(entry.Revision, entry.Event)
		f.last = markOf(entry.Event)
		if entry.Revision == at {
			f.stood = f.last
		}
	}
	return f, ctx.Err()
}

// skip tells, once, of an event that nobody can read: it changes nothing
// anywhere.
func (e *Enforcer) skip(revision uint64, err error) {
	if revision <= e.skipped.Load() {
		return
	}
	e.skipped.Store(revision)
	e.report.add(hostEvent{Kind: schemas.KindPolicyUnreadable, Severity: "error", Message: "an event of the policy log cannot be read and has no effect", Revision: revision, Err: err.Error()})
}

var errLost = errors.New("the policy log is not the one that is enforced here: the last good revision stays in force; restore the log; or stop the enforcer, remove snapshot.json from its data folder, and start it, to accept the new one")

// checkLost is an error when the log is shorter than what is enforced here, or
// another one: it was wiped.
func (e *Enforcer) checkLost(f folding) error {
	at := e.ledger.standing()
	lost := f.state.Revision() < at.revision || at.mark != "" && f.stood != at.mark
	if !lost {
		if e.ledger.lost.Swap(false) {
			e.report.add(hostEvent{Kind: schemas.KindPolicyLogBack, Severity: "info", Message: "the policy log is back", Revision: f.state.Revision()})
		}
		return nil
	}
	if !e.ledger.lost.Swap(true) {
		e.report.add(hostEvent{
			Kind: schemas.KindPolicyLogLost, Severity: "error", Revision: at.revision, Message: "the policy log is lost", Err: errLost.Error(),
			Detail: map[string]string{"log_revision": strconv.FormatUint(f.state.Revision(), 10)},
		})
	}
	return fmt.Errorf("%w (in force is %d, the log ends at %d)", errLost, at.revision, f.state.Revision())
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
			Kind: schemas.KindPolicyRefused, Severity: "warn", Message: "an event of the policy log has no effect", Policy: entry.Event.GetPolicy(),
			Revision: entry.Revision, Err: out.Refused,
		})
	}
	if len(out.Changes) == 0 {
		e.stand(standing{entry.Revision, markOf(entry.Event)})
		return
	}
	e.put(*set, standing{entry.Revision, markOf(entry.Event)}, touched(out))
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
func (e *Enforcer) put(set policySet, at standing, touched map[string]bool) {
	changed, err := e.registry.setPolicies(set, touched, time.Now())
	e.cutOf(changed, at.revision, set.keeps)
	e.stand(at)
	select {
	case e.folded <- struct{}{}:
	default:
	}
	e.applied(changed, "the policy log", err)
}

// stand notes how far the log is in force.
func (e *Enforcer) stand(at standing) {
	e.ledger.stand(at.revision, at.mark)
	e.cutter.reach(at.revision)
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
		Kind: schemas.KindPolicyApplied, Severity: "info", Message: "policies are in force", Revision: e.ledger.standing().revision,
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
	next := policySet{Rules: cloneMap(s.Rules), Revision: cloneMap(s.Revision), Effect: cloneMap(s.Effect), Modes: map[string]policy.Mode{}}
	for name := range touched {
		p := state.Policy(name)
		next.Rules[name], next.Revision[name], next.Effect[name] = p.Rules, p.Revision, state.LastEffect(name)
	}
	for _, o := range state.Modes() {
		next.Modes[o.Workload] = o.Mode
	}
	return next
}
