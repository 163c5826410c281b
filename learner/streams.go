package learner

import (
	"context"
	"errors"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/schemas"
)

// begin notes which streams are read.
func (s *service) begin(ctx context.Context) error {
	end, err := s.events.PolicyEnd(ctx)
	if err != nil {
		return err
	}
	s.policyMade = end.Made
	if end, err = s.events.FlowEnd(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if covered := s.learner.Covered(); s.learner.Stream(end.Made) || end.Last < covered {
		s.learner.covered = 0
		s.Log.Warn("the stream of flows was made anew, going on with its first message", "covered", covered)
	}
	return nil
}

// anewEvery is how often it is looked whether the streams are the same still.
const anewEvery = 5 * time.Second

// anew is an error when a stream was made anew: who reads on behind the end of
// the former one would wait for ever.
func (s *service) anew(ctx context.Context) error {
	s.mu.Lock() // before the ends are asked for, which go on
	revision, covered := s.learner.State().Revision(), s.learner.Covered()
	s.mu.Unlock()
	end, err := s.events.PolicyEnd(ctx)
	if err != nil {
		return err
	}
	if !end.Made.Equal(s.policyMade) || end.Last < revision {
		return errors.New("the policy log was made anew")
	}
	if end, err = s.events.FlowEnd(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.learner.of(end.Made) || end.Last < covered {
		return errors.New("the stream of flows was made anew")
	}
	return nil
}

func (s *service) foldPolicy(ctx context.Context, follow bool) error {
	for e, err := range s.events.PolicyEvents(ctx, s.next(), follow) {
		if errors.Is(err, eventlog.ErrMessage) {
			s.Log.Warn("policy event left out", "err", err)
			e.Event = &schemas.PolicyEvent{}
		} else if err != nil {
			return err
		}
		s.mu.Lock()
		s.learner.Policy(e.Revision, e.Event)
		s.mu.Unlock()
	}
	return nil
}

func (s *service) next() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.learner.State().Revision() + 1
}

func (s *service) takeFlows(ctx context.Context, follow bool) error {
	s.mu.Lock()
	from := s.learner.Covered() + 1
	s.mu.Unlock()
	for e, err := range s.events.FlowEntries(ctx, from, follow) {
		if errors.Is(err, eventlog.ErrMessage) {
			s.Log.Warn("flows left out", "err", err)
		} else if err != nil {
			return err
		}
		s.mu.Lock()
		s.learner.Flows(e.Sequence, e.Flows)
		s.mu.Unlock()
	}
	return nil
}

// takeHosts takes the host events of the window, again at each start.
func (s *service) takeHosts(ctx context.Context, follow bool) error {
	q := eventlog.HostQuery{Since: s.Now().Add(-s.learner.options.Window), Follow: follow}
	for e, err := range s.events.HostEvents(ctx, q) {
		if errors.Is(err, eventlog.ErrMessage) {
			s.Log.Warn("host event left out", "err", err)
			continue
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.learner.Host(e)
		s.mu.Unlock()
	}
	return nil
}
