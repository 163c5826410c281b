package collector

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// diskEvery is how often Loki is asked about its disk; each time something,
	// its own event at least, is pushed in between.
	diskEvery = 30 * time.Second
	// diskMetric counts what Loki could not write on its disk, and has answered
	// with 204 all the same.
	diskMetric = "loki_ingester_wal_disk_full_failures_total"
	// mostMetrics bounds what is read of Loki's metrics.
	mostMetrics = 8 << 20
)

var errDiskFull = errors.New("the disk of Loki is full: it takes events, but keeps them in memory alone; make room there now. " +
	"If it ends before, deliver again: give the target another name, and since_hours")

var errNoMetric = errors.New("no such metric")

// diskWatch looks at what a Loki says of its own disk, as its answers do not. A
// Loki whose metrics are out of reach is not watched.
type diskWatch struct {
	poster *poster
	log    *slog.Logger
	every  time.Duration

	failures float64 // at the last look; not valid until known
	known    bool
	full     atomic.Bool
}

// run looks until ctx ends.
func (d *diskWatch) run(ctx context.Context) error {
	tick := time.NewTicker(d.every)
	defer tick.Stop()
	for {
		d.look(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// look tells when the failures have begun to grow, and when they have ended.
func (d *diskWatch) look(ctx context.Context) {
	n, err := d.poster.metric(ctx, diskMetric)
	if err != nil {
		d.log.Debug("loki's metrics are out of reach", "err", err)
		return
	}
	full := d.known && n > d.failures
	d.failures, d.known = n, true
	if d.full.Swap(full) == full {
		return
	}
	if full {
		d.log.Error("events are in danger", "err", errDiskFull)
	} else {
		d.log.Info("loki writes to its disk again")
	}
}

// check is for readiness.
func (d *diskWatch) check() error {
	if d.full.Load() {
		return errDiskFull
	}
	return nil
}

// metric reads one of Loki's own, without labels.
func (p *poster) metric(ctx context.Context, name string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, p.config.Timeout)
	defer cancel()
	at := *p.config.URL.URL
	at.Path = strings.TrimSuffix(at.Path, pushPath) + "/metrics"
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return 0, err
	}
	response, err := p.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("metrics of loki: %s", response.Status)
	}
	lines := bufio.NewScanner(io.LimitReader(response.Body, mostMetrics))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if value, is := strings.CutPrefix(lines.Text(), name+" "); is {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.Join(errNoMetric, lines.Err())
}
