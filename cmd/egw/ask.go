package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/eventlog"
)

const (
	// askWait is how long a host has to answer.
	askWait = 10 * time.Second
	// asksAtOnce bounds the questions that are on their way.
	asksAtOnce = 32
)

// hostStatus is a host's answer, or why there is none.
type hostStatus struct {
	Host   string           `json:"host"`
	Error  string           `json:"error,omitempty"`
	Status *enforcer.Status `json:"status,omitempty"`
}

// healthy tells whether the host enforces.
func (h hostStatus) healthy() bool { return h.Status != nil && h.Status.Enforcing }

// hosts are the one named, or all that ever wrote to the event log.
func hosts(ctx context.Context, l *eventlog.Log, only string) ([]string, error) {
	if only != "" {
		return []string{only}, nil
	}
	all, err := l.Hosts(ctx)
	if errors.Is(err, eventlog.ErrNotFound) || err == nil && len(all) == 0 {
		return nil, coded{errors.New("no enforcer has reported to this event log yet"), errUnhealthy}
	}
	return all, err
}

// statuses asks hosts for their status, in their order.
func statuses(ctx context.Context, l *eventlog.Log, hosts []string) []hostStatus {
	out := make([]hostStatus, len(hosts))
	var g errgroup.Group
	g.SetLimit(asksAtOnce)
	for i, host := range hosts {
		g.Go(func() error {
			out[i].Host = host
			var s enforcer.Status
			if err := ask(ctx, l, host, enforcer.AskStatus, nil, &s); err != nil {
				out[i].Error = err.Error()
				return nil
			}
			out[i].Status = &s
			return nil
		})
	}
	_ = g.Wait() // errors are in the answers
	return out
}

// ask puts a question to a host's enforcer and decodes what it answers. A host
// that keeps silent is one that does not answer.
func ask(ctx context.Context, l *eventlog.Log, host, name string, question, answer any) error {
	return askFor(ctx, askWait, l, host, name, question, answer)
}

// askFor is ask with the longest wait.
func askFor(ctx context.Context, most time.Duration, l *eventlog.Log, host, name string, question, answer any) error {
	request, err := json.Marshal(question)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	data, err := l.Ask(ctx, host, name, request)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", err, eventlog.ErrNoAnswer)
	}
	if err != nil {
		return err
	}
	if err := enforcer.DecodeAnswer(data, answer); err != nil {
		return fmt.Errorf("answer of %s: %w", host, err)
	}
	return nil
}

// unhealthy is the error of a command that has shown hosts which do not
// enforce or do not answer; nil when all do.
func unhealthy(all []hostStatus) error {
	var names []string
	for _, h := range all {
		if !h.healthy() {
			names = append(names, printable(h.Host))
		}
	}
	if len(names) == 0 {
		return nil
	}
	return coded{fmt.Errorf("not enforcing, or not to be reached: %s", someOf(names)), errUnhealthy}
}

// someOf names the first few.
func someOf(names []string) string {
	const most = 5
	text := ""
	for i, name := range names {
		if i == most {
			return fmt.Sprintf("%s and %d more", text, len(names)-most)
		}
		if i > 0 {
			text += ", "
		}
		text += name
	}
	return text
}
