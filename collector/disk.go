package collector

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
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
	// startMetric tells the Lokis behind one address apart: their counters have
	// nothing to do with each other.
	startMetric = "process_start_time_seconds"
	// calmLooks in a row without a failure end the alarm: between two there may
	// have been nothing to write.
	calmLooks = 2
	// absentLooks without a Loki are after which it is forgotten: it has ended, or
	// the load balancer does not ask it any more.
	absentLooks = 10
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

	lokis map[float64]*lokiDisk // by when they started
	full  atomic.Bool
}

// lokiDisk is what one Loki says of its disk.
type lokiDisk struct {
	failures     float64 // at the last look
	full         bool
	calm, absent int // looks
}

// look compares with the last one.
func (l *lokiDisk) look(failures float64) {
	l.calm++
	if failures > l.failures {
		l.full, l.calm = true, 0
	}
	l.full = l.full && l.calm < calmLooks
	l.failures, l.absent = failures, 0
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
	got, err := d.poster.readMetrics(ctx, diskMetric, startMetric)
	if err != nil {
		d.log.Debug("loki's metrics are out of reach", "err", err)
		return
	}
	full := d.anyFull(got[startMetric], got[diskMetric])
	if d.full.Swap(full) == full {
		return
	}
	if full {
		d.log.Error("events are in danger", "err", errDiskFull)
	} else {
		d.log.Info("loki writes to its disk again")
	}
}

// anyFull notes the failures of the Loki that started then, and tells whether
// any has a full disk.
func (d *diskWatch) anyFull(started, failures float64) bool {
	if d.lokis == nil {
		d.lokis = map[float64]*lokiDisk{}
	}
	if d.lokis[started] == nil {
		d.lokis[started] = &lokiDisk{failures: failures}
	}
	full := false
	for when, l := range d.lokis {
		if when == started {
			l.look(failures)
		} else if l.absent++; l.absent >= absentLooks {
			delete(d.lokis, when)
			continue
		}
		full = full || l.full
	}
	return full
}

// check is for readiness.
func (d *diskWatch) check() error {
	if d.full.Load() {
		return errDiskFull
	}
	return nil
}

// readMetrics reads some of Loki's own, without labels. The first must be there.
func (p *poster) readMetrics(ctx context.Context, names ...string) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, p.config.Timeout)
	defer cancel()
	at := *p.config.URL.URL
	at.Path = strings.TrimSuffix(at.Path, pushPath) + "/metrics"
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	response, err := p.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics of loki: %s", response.Status)
	}
	got := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(response.Body, mostMetrics))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if !slices.Contains(names, name) {
			continue
		}
		if got[name], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, err
		}
	}
	if _, is := got[names[0]]; !is {
		return nil, errors.Join(errNoMetric, lines.Err())
	}
	return got, nil
}
