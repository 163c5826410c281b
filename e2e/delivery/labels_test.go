package delivery

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/loki"
	"github.com/egresswarden/egresswarden/schemas"
)

// The many that must not become streams of Loki, and the few that may.
const (
	containers = 10_000
	addresses  = 100_000
	hosts      = 4
	workloads  = 25
	verdicts   = 3
)

// TestStreamsAreHostsByWorkloadsByVerdicts sends events of very many containers
// and addresses through NATS and a collector.
func TestStreamsAreHostsByWorkloadsByVerdicts(t *testing.T) {
	p := newPipeline(t, loki.Options{Config: map[string]any{"limits_config": map[string]any{
		"ingestion_rate_mb": 1000, "ingestion_burst_size_mb": 1000, "per_stream_rate_limit": "1GB", "per_stream_rate_limit_burst": "1GB",
	}}})
	began := time.Now()
	l := p.events(t)
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Long)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for h := range hosts {
		g.Go(func() error { return record(ctx, l, h, addresses, began) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	p.drained(t, l, target)
	from, to := began.Add(-time.Hour), began.Add(time.Hour)
	series, err := p.loki.Series(t.Context(), `{service_name="egresswarden"}`, from, to)
	if err != nil {
		t.Fatal(err)
	}
	if len(series) != hosts*workloads*verdicts {
		t.Errorf("%d streams for %d hosts, %d workloads and %d verdicts", len(series), hosts, workloads, verdicts)
	}
	samples, err := p.loki.Instant(t.Context(), `sum(count_over_time({service_name="egresswarden"}[2h]))`, to)
	if err != nil || len(samples) != 1 || samples[0].Value != addresses {
		t.Errorf("%v, %v: want %d events", samples, err, addresses)
	}
	t.Logf("%d events of %d containers and as many addresses are %d streams, within %.1f s", addresses, containers, len(series), time.Since(began).Seconds())
}

// record writes the events of a host, of so many in all.
func record(ctx context.Context, l *eventlog.Log, h, total int, now time.Time) error {
	w := l.FlowWriter(fmt.Sprint("h", h), "boot")
	defer w.Close()
	var all []*schemas.Flow
	for n := h; n < total; n += hosts {
		all = append(all, flow(h, n, now))
	}
	written := uint64(0)
	for some := range slices.Chunk(all, 1000) {
		written = position(some[len(some)-1]) + 1
		if err := w.Write(ctx, some, written); err != nil {
			return err
		}
	}
	return w.Flush(ctx)
}

// flow is the nth event: every address has one.
func flow(h, n int, now time.Time) *schemas.Flow {
	container := n / hosts % (containers / hosts)
	name := fmt.Sprint("h", h)
	return &schemas.Flow{
		Id: schemas.FlowID(name, "boot", uint64(n)), TimeNs: now.UnixNano() + int64(n), Host: name, Count: 1,
		Workload: fmt.Sprint("w", container%workloads), Container: fmt.Sprint("c", container), ContainerId: fmt.Sprintf("%064x", h<<32|container),
		Verdict: schemas.Verdict(1 + n/(hosts*workloads)%verdicts), Proto: 6, DstPort: 443, DstIp: binary.BigEndian.AppendUint32(nil, 10<<24|uint32(n)),
	}
}

func position(f *schemas.Flow) uint64 {
	n, err := schemas.FlowPosition(f.GetId())
	if err != nil {
		panic(err) // it is ours
	}
	return n
}
