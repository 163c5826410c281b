package collector

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/loki"
	"github.com/egresswarden/egresswarden/schemas"
)

// unlimited is a Loki that is limited by what it can do.
func unlimited() loki.Options {
	return loki.Options{Config: map[string]any{"limits_config": map[string]any{
		"ingestion_rate_mb": 10_000, "ingestion_burst_size_mb": 10_000, "per_stream_rate_limit": "10GB", "per_stream_rate_limit_burst": "10GB",
	}}}
}

// benchEvents are carried in each round of BenchmarkLoki.
const benchEvents = 100_000

// fill writes events of a host, of eight streams, as fast as it goes.
func (b *bench) fill(host string, events int) {
	b.t.Helper()
	w := b.events.FlowWriter(host, "boot")
	defer w.Close()
	at := time.Now().Add(-time.Duration(events) * 10 * time.Microsecond)
	for n := 0; n < events; n += 1000 {
		flows := make([]*schemas.Flow, 0, 1000)
		for i := n; i < min(n+1000, events); i++ {
			f := flow(i, at.Add(time.Duration(i)*10*time.Microsecond))
			f.Id, f.Host, f.Workload = schemas.FlowID(host, "boot", uint64(i)), host, fmt.Sprint("shop/", i%4)
			f.Verdict = []schemas.Verdict{schemas.Verdict_VERDICT_ALLOW, schemas.Verdict_VERDICT_DENY}[i/4%2]
			f.DstIp = []byte{198, 51, byte(i >> 8), byte(i)}
			flows = append(flows, f)
		}
		if err := w.Write(b.t.Context(), flows, uint64(min(n+1000, events))); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := w.Flush(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// BenchmarkLoki carries the same events to the same Loki in turns: by the
// collector out of JetStream, and by a pusher that has the requests ready. The
// collector's CPU is with that of the NATS server in this process.
func BenchmarkLoki(b *testing.B) {
	s := loki.Start(b, unlimited())
	var ratios, rates, cpus []float64
	for round := range 5 * b.N {
		bare := barePush(b, s, fmt.Sprint("bare-", round))
		rate, cpu := carry(b, s, fmt.Sprint("web-", round))
		b.Logf("round %d: collector %.0f events/s, bare pusher %.0f events/s, %.2f µs of CPU an event", round, rate, bare, cpu*1e6)
		ratios, rates, cpus = append(ratios, rate/bare), append(rates, rate), append(cpus, cpu*1e6)
	}
	b.ReportMetric(median(rates), "events/s")
	b.ReportMetric(median(ratios), "of-bare-pusher")
	b.ReportMetric(median(cpus), "µs-CPU/event")
	b.ReportMetric(0, "ns/op")
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

// carry lets a collector deliver what lies in JetStream.
func carry(b *testing.B, s *loki.Server, host string) (perSecond, cpuSeconds float64) {
	log := newBench(b)
	log.fill(host, benchEvents)
	before, start := cpuTime(b), time.Now()
	stop := log.collect(Target{URL: s.URL})
	testutil.Eventually(b, "all in Loki", func() error {
		if n := log.delivered(); n < benchEvents {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	took, used := time.Since(start), cpuTime(b)-before
	stop()
	return benchEvents / took.Seconds(), used.Seconds() / benchEvents
}

func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bodies keeps the requests that a round would make.
type bodies struct {
	mu  sync.Mutex
	all [][]byte
}

func (k *bodies) Deliver(_ context.Context, round []Group) error {
	for _, g := range round {
		for entries := g.Entries; len(entries) > 0; {
			n := firstBatch(entries)
			body, err := new(buffers).encode(g.Labels.String(), entries[:n])
			if err != nil {
				return err
			}
			k.mu.Lock()
			k.all = append(k.all, bytes.Clone(body))
			k.mu.Unlock()
			entries = entries[n:]
		}
	}
	return nil
}

// barePush sends ready requests, as many side by side as the collector does.
func barePush(b *testing.B, s *loki.Server, host string) (perSecond float64) {
	log, kept := newBench(b), &bodies{}
	log.fill(host, benchEvents)
	w := &worker{target: "bare", stream: schemas.StreamFlows, sink: kept, metrics: newMetrics(nil)}
	ctx, cancel := context.WithCancel(b.Context())
	consumer := log.events.Consumer(eventlog.ConsumerOptions{Stream: schemas.StreamFlows, Name: "bare"})
	seen := 0
	_ = consumer.Run(ctx, func(ctx context.Context, round []eventlog.Message) error {
		err := w.deliver(ctx, round)
		for _, m := range round {
			_ = schemas.EachFlow(m.Data, new(schemas.Flow), func() error { seen++; return nil })
		}
		if seen >= benchEvents {
			cancel()
		}
		return err
	})
	start := time.Now()
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, body := range kept.all {
		g.Go(func() error {
			return testutil.Poll(b.Context(), testutil.Long, func() error { // a busy machine's Loki answers 500
				r, err := http.Post(s.URL+pushPath, "application/x-protobuf", bytes.NewReader(body))
				if err == nil {
					r.Body.Close()
					if r.StatusCode != http.StatusNoContent {
						err = fmt.Errorf("answer %d", r.StatusCode)
					}
				}
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	return benchEvents / time.Since(start).Seconds()
}

// timed notes how old events are when their sink has them.
type timed struct {
	Sink
	mu   sync.Mutex
	ages []time.Duration
}

func (s *timed) Deliver(ctx context.Context, round []Group) error {
	err := s.Sink.Deliver(ctx, round)
	now := time.Now().UnixNano()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range round {
		for i := range g.Entries {
			s.ages = append(s.ages, time.Duration(now-g.Entries[i].TimeNs))
		}
	}
	return err
}

// BenchmarkLokiLag has 10,000 events a second happen, for ten seconds, in the
// packs of an enforcer, and tells how old they are when Loki has them.
func BenchmarkLokiLag(b *testing.B) {
	const perSecond, seconds, pack = 10_000, 10, 100
	s, log := loki.Start(b, unlimited()), newBench(b)
	c := &collector{Config: log.config(Target{URL: s.URL}), events: log.events, metrics: newMetrics(nil)}
	if err := c.add(c.Targets[0]); err != nil {
		b.Fatal(err)
	}
	flows := c.lines[0]
	sink := &timed{Sink: flows.worker.sink}
	flows.worker.sink = sink
	ctx, stop := context.WithCancel(b.Context())
	var g errgroup.Group
	g.Go(func() error { return flows.consumer.Run(ctx, flows.worker.deliver) })
	w := log.events.FlowWriter(testHost, "boot")
	defer w.Close()
	events := perSecond * seconds * b.N
	tick := time.NewTicker(time.Second * pack / perSecond)
	defer tick.Stop()
	for n := 0; n < events; n += pack {
		<-tick.C
		var some []*schemas.Flow
		for i := n; i < n+pack; i++ {
			some = append(some, flow(i, time.Now()))
		}
		if err := w.Write(ctx, some, uint64(n+pack)); err != nil {
			b.Fatal(err)
		}
	}
	testutil.Eventually(b, "all in Loki", func() error {
		sink.mu.Lock()
		defer sink.mu.Unlock()
		if len(sink.ages) < events {
			return fmt.Errorf("%d", len(sink.ages))
		}
		return nil
	})
	stop()
	_ = g.Wait()
	slices.Sort(sink.ages)
	b.ReportMetric(sink.ages[events/2].Seconds()*1000, "ms-median")
	b.ReportMetric(sink.ages[events*99/100].Seconds()*1000, "ms-p99")
	b.ReportMetric(sink.ages[events-1].Seconds()*1000, "ms-most")
	b.ReportMetric(0, "ns/op")
}
