package collector

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/egresswarden/egresswarden/internal/telemetry"
)

// metrics are the collector's, and the sums that its own events tell.
type metrics struct {
	delivered, retries, dead, bytes *prometheus.CounterVec
	late                            prometheus.Counter
	requests                        *prometheus.HistogramVec
	pending, lag                    *prometheus.GaugeVec

	sumDelivered, sumRetries, newLate atomic.Uint64
}

func newMetrics(set *telemetry.Set) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "egw_collector_" + name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "egw_collector_" + name, Help: help}, labels)
	}
	m := &metrics{
		delivered: counter("delivered_total", "Events that the target has for good; parked ones are among them.", "target", "stream"),
		retries:   counter("retries_total", "Attempts that have to be repeated.", "target"),
		dead:      counter("dead_total", "Events parked in EGW_DEAD.", "consumer", "reason"),
		bytes:     counter("sent_bytes_total", "Bodies of requests that Loki took.", "target"),
		late:      prometheus.NewCounter(prometheus.CounterOpts{Name: "egw_collector_late_denials_total", Help: "Denials delivered more than five minutes after their time."}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "egw_collector_request_seconds", Help: "Requests to Loki by its answer; 0: none came.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"target", "code"}),
		pending: gauge("pending_messages", "Messages of a stream that the target does not have yet.", "target", "stream"),
		lag:     gauge("lag_seconds", "How long the oldest of them has been in the stream.", "target", "stream"),
	}
	if set != nil {
		set.Register(m.delivered, m.retries, m.dead, m.bytes, m.late, m.requests, m.pending, m.lag)
	}
	return m
}

func (m *metrics) deliver(target, stream string, n int, late uint64) {
	m.delivered.WithLabelValues(target, stream).Add(float64(n))
	m.late.Add(float64(late))
	m.sumDelivered.Add(uint64(n))
	m.newLate.Add(late)
}

func (m *metrics) retry(target string) {
	m.retries.WithLabelValues(target).Inc()
	m.sumRetries.Add(1)
}
