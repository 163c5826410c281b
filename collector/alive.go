package collector

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/schemas"
)

const (
	aliveEvery = 30 * time.Second
	// lookEvery is how often the metrics of the backlog are brought up to date.
	lookEvery = 5 * time.Second
)

// watch looks at the backlog, and tells of it in an event of its own, at the
// start and from time to time: so that rules in Loki know of a collector that
// lags, and of one that is silent.
func (c *collector) watch(ctx context.Context) error {
	tick := time.NewTicker(min(lookEvery, c.every()))
	defer tick.Stop()
	var told time.Time
	for {
		b, err := c.look(ctx)
		if err == nil && time.Since(told) >= c.every() {
			told = time.Now()
			err = c.tell(ctx, b)
		}
		if err != nil && ctx.Err() == nil {
			c.logger().Debug("backlog is not known", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// backlog is what the targets do not have yet.
type backlog struct {
	pending uint64
	lag     time.Duration
}

// look asks for the backlog of each stream and target.
func (c *collector) look(ctx context.Context) (b backlog, err error) {
	for _, l := range c.lines {
		s, err := l.consumer.Status(ctx)
		if errors.Is(err, eventlog.ErrNotFound) {
			continue // it has not begun yet
		}
		if err != nil {
			return b, err
		}
		var lag time.Duration
		if !s.Oldest.IsZero() {
			lag = max(time.Since(s.Oldest), 0)
		}
		c.metrics.pending.WithLabelValues(l.worker.target, l.worker.stream).Set(float64(s.Pending))
		c.metrics.lag.WithLabelValues(l.worker.target, l.worker.stream).Set(lag.Seconds())
		b.pending, b.lag = b.pending+s.Pending, max(b.lag, lag)
	}
	return b, nil
}

// tell appends the collector's event to EGW_HOSTS.
func (c *collector) tell(ctx context.Context, b backlog) error {
	dead, err := c.events.DeadCount(ctx)
	if err != nil {
		return err
	}
	late := c.metrics.newLate.Swap(0)
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	e := &schemas.HostEvent{
		TimeNs: time.Now().UnixNano(), Host: c.Name, Kind: schemas.KindCollectorAlive, Severity: "info", Message: "the collector is at work",
		Detail: map[string]string{
			"pending": number(b.pending), "lag_seconds": strconv.FormatFloat(b.lag.Seconds(), 'f', 1, 64),
			"delivered": number(c.metrics.sumDelivered.Load()), "retries": number(c.metrics.sumRetries.Load()),
			"dead": number(dead), "late_denials": number(late),
		},
	}
	if err := c.events.PublishHost(ctx, e); err != nil {
		c.metrics.newLate.Add(late)
		return err
	}
	return nil
}
