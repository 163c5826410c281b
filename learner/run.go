package learner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/telemetry"
	"github.com/egresswarden/egresswarden/schemas"
)

// AskHost and AskReadiness are where a running learner answers with the JSON
// of []Readiness.
const (
	AskHost      = "(learner)"
	AskReadiness = "readiness"
)

// Config says how a learner runs.
type Config struct {
	Options Options
	// Snapshot is the file that keeps the evidence; empty keeps none, and then
	// the whole stream of flows is read at each start.
	Snapshot string
	// PlanEvery and SaveEvery are the shortest times between two looks for
	// proposals and two snapshots; both rest longer when they take long.
	PlanEvery, SaveEvery time.Duration
	// Metrics, if set, gets the learner's metrics and checks.
	Metrics *telemetry.Set
	// Now is the clock; nil is the system's.
	Now func() time.Time
	// Log may be nil.
	Log *slog.Logger
}

const (
	retryAfter = time.Second
	// restFactor bounds the share of time that planning and saving take.
	restFactor = 10
	// restMost bounds the rest: what was slow may have been a log that was away.
	restMost = 30 * time.Second
)

// service runs a Learner between the streams.
type service struct {
	Config
	events *eventlog.Log

	mu      sync.Mutex
	learner *Learner
	// appended is the revision of the own event appended last.
	appended uint64
	saved    uint64
	// policyMade tells the policy log that is folded from another.
	policyMade time.Time

	gauges gauges
	// learning is true while both streams are followed.
	learning atomic.Bool
	// interruption is why learning broke off, nil once it has begun again.
	interruption atomic.Pointer[string]
}

// Run learns until the context ends: it reads EGW_FLOWS from where its
// snapshot ends, folds EGW_POLICY, and appends proposals. What fails is tried
// again; an unreadable snapshot is an error at once, so that evidence is not
// thrown away silently.
func Run(ctx context.Context, events *eventlog.Log, c Config) error {
	or(&c.PlanEvery, time.Second)
	or(&c.SaveEvery, 10*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &service{Config: c, events: events}
	if err := s.load(); err != nil {
		return err
	}
	if c.Metrics != nil {
		s.instrument(c.Metrics)
	}
	stop := s.answer(ctx)
	for ctx.Err() == nil {
		if err := s.session(ctx); err != nil && ctx.Err() == nil {
			s.interrupted(err)
			s.again()
			wait(ctx, retryAfter)
		}
	}
	return errors.Join(stop(), s.save())
}

// answer answers questions; it tries until it may, for the server may end at
// this very moment.
func (s *service) answer(ctx context.Context) (stop func() error) {
	for ctx.Err() == nil {
		stop, err := s.events.Handle(AskHost, AskReadiness, s.readiness)
		if err == nil {
			return stop
		}
		s.Log.Warn("questions are not answered yet", "err", err)
		wait(ctx, retryAfter)
	}
	return func() error { return nil }
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// interrupted notes why learning broke off, and tells what is news.
func (s *service) interrupted(err error) {
	s.gauges.interruptions.Add(1)
	text := err.Error()
	if was := s.interruption.Swap(&text); was == nil || *was != text {
		s.Log.Warn("learning interrupted, and is tried again", "err", err)
	}
}

// ready tells why nothing is learnt now.
func (s *service) ready() error {
	if s.learning.Load() {
		return nil
	}
	if why := s.interruption.Load(); why != nil {
		return fmt.Errorf("learning was interrupted, there are no new proposals: %s", *why)
	}
	return errors.New("the event log is being read, there are no new proposals yet")
}

// again keeps the evidence and forgets the policy log, which is folded again.
func (s *service) again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.learner.restart()
	s.appended = 0
}

// session catches up with both streams, and then follows them.
func (s *service) session(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	if err := s.foldPolicy(ctx, false); err != nil {
		return err
	}
	if err := s.takeFlows(ctx, false); err != nil {
		return err
	}
	if err := s.takeHosts(ctx, false); err != nil {
		return err
	}
	s.interruption.Store(nil)
	s.learning.Store(true)
	defer s.learning.Store(false)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.foldPolicy(ctx, true) })
	g.Go(func() error { return s.every(ctx, anewEvery, s.anew) })
	g.Go(func() error { return s.takeFlows(ctx, true) })
	g.Go(func() error { return s.takeHosts(ctx, true) })
	g.Go(func() error { return s.every(ctx, s.PlanEvery, s.plan) })
	g.Go(func() error {
		return s.every(ctx, s.SaveEvery, func(context.Context) error {
			if err := s.save(); err != nil {
				s.Log.Warn("evidence not saved", "file", s.Snapshot, "err", err)
			}
			return nil
		})
	})
	return g.Wait()
}

func (s *service) every(ctx context.Context, d time.Duration, do func(context.Context) error) error {
	for {
		start := time.Now()
		if err := do(ctx); err != nil {
			return err
		}
		wait(ctx, max(d, min(restFactor*time.Since(start), restMost)))
		if ctx.Err() != nil {
			return nil
		}
	}
}

// plan appends what the learner plans, once all that was appended before is
// folded: only then does it know what is open.
func (s *service) plan(ctx context.Context) error {
	s.mu.Lock()
	if s.learner.State().Revision() < s.appended {
		s.mu.Unlock()
		return nil
	}
	began := time.Now()
	events, err := s.learner.Plan(s.Now())
	s.gauges.note(s.learner, time.Since(began))
	last := map[string]uint64{}
	for _, e := range events {
		last[e.GetPolicy()] = s.learner.State().LastSequence(e.GetPolicy())
	}
	s.mu.Unlock()
	if err != nil {
		s.Log.Warn("no proposals for a policy", "err", err)
	}
	return s.append(ctx, events, last)
}

// syncEvery is how many events are on their way to the disk at once: a power
// failure may take them back.
const syncEvery = 64

// append appends each event behind the last of its policy. Where somebody else
// was faster, the rest for that policy waits for the next plan.
func (s *service) append(ctx context.Context, events []*schemas.PolicyEvent, last map[string]uint64) error {
	stale, unsynced := map[string]bool{}, 0
	for _, e := range events {
		name := e.GetPolicy()
		if stale[name] {
			continue
		}
		revision, err := s.events.AppendPolicyUnsynced(ctx, e, last[name])
		if errors.Is(err, eventlog.ErrStale) {
			stale[name] = true
			continue
		}
		if err != nil {
			return err
		}
		last[name] = revision
		s.mu.Lock()
		s.appended = revision
		s.mu.Unlock()
		if unsynced++; unsynced < syncEvery {
			continue
		}
		unsynced = 0
		if err := s.events.SyncPolicy(ctx); err != nil {
			return err
		}
	}
	if unsynced == 0 {
		return nil
	}
	return s.events.SyncPolicy(ctx)
}

func (s *service) readiness(context.Context, []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.learner.Readiness(s.Now())
	if err != nil {
		return nil, err
	}
	return json.Marshal(r)
}
