package enforcer

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/schemas"
)

// hostEvent is something that happened to this host's enforcement.
type hostEvent struct {
	Kind, Severity, Message, Err     string
	Workload, Container, ContainerID string
	Policy                           string
	Revision, Count                  uint64
	Detail                           map[string]string
}

func warn(kind, message string, err error) hostEvent {
	return hostEvent{Kind: kind, Severity: "warn", Message: message, Err: err.Error()}
}

// reportQueue bounds the events that wait for the event log.
const reportQueue = 4096

// reporter logs host events and publishes them once the event log is there.
type reporter struct {
	host    string
	log     *slog.Logger
	queue   chan *schemas.HostEvent
	dropped atomic.Uint64
}

func newReporter(host string, log *slog.Logger) *reporter {
	return &reporter{host: host, log: log, queue: make(chan *schemas.HostEvent, reportQueue)}
}

// add never blocks. When the queue is full, the loss is counted and told by
// the next event that gets through.
func (r *reporter) add(h hostEvent) {
	level := map[string]slog.Level{"info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}[h.Severity]
	attrs := []any{"event", h.Kind}
	for key, value := range map[string]string{"container": h.Container, "workload": h.Workload, "err": h.Err} {
		if value != "" {
			attrs = append(attrs, key, value)
		}
	}
	if h.Revision != 0 {
		attrs = append(attrs, "policy_rev", h.Revision)
	}
	r.log.Log(context.Background(), level, h.Message, attrs...) //nolint:sloglint // the message is the event's own constant
	select {
	case r.queue <- h.message(r.host):
	default:
		r.dropped.Add(1)
	}
}

func (h hostEvent) message(host string) *schemas.HostEvent {
	return &schemas.HostEvent{
		TimeNs: time.Now().UnixNano(), Host: host, Kind: h.Kind, Severity: h.Severity, Message: h.Message, Workload: h.Workload,
		Container: h.Container, ContainerId: h.ContainerID, Policy: h.Policy, Revision: h.Revision, Count: h.Count, Error: h.Err, Detail: h.Detail,
	}
}

// run publishes in order, each until it is in the log.
func (r *reporter) run(ctx context.Context, log *eventlog.Log) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-r.queue:
			if err := r.publish(ctx, log, m); err != nil {
				return err
			}
		}
		if err := r.tellDropped(ctx, log); err != nil {
			return err
		}
	}
}

// tellDropped publishes how many events found the queue full. It does not go
// through the queue, which may be full again.
func (r *reporter) tellDropped(ctx context.Context, log *eventlog.Log) error {
	n := r.dropped.Swap(0)
	if n == 0 {
		return nil
	}
	const message = "host events were lost while the event log was away"
	h := hostEvent{Kind: schemas.KindHostEventsDropped, Severity: "error", Message: message, Count: n}
	r.log.Error(message, "event", h.Kind, "count", n)
	if err := r.publish(ctx, log, h.message(r.host)); err != nil {
		r.dropped.Add(n)
		return err
	}
	return nil
}

func (r *reporter) publish(ctx context.Context, log *eventlog.Log, m *schemas.HostEvent) error {
	for wait := reconnectMin; ; wait = min(2*wait, reconnectMax) {
		if err := log.PublishHost(ctx, m); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
