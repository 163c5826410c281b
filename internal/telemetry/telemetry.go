// Package telemetry is what a process tells of itself over HTTP: metrics, that
// it lives, and whether it is ready.
package telemetry

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/egresswarden/egresswarden/internal/version"
)

// Set is one process's metrics and checks. Its methods may be used from several
// goroutines.
type Set struct {
	registry *prometheus.Registry

	mu     sync.Mutex
	checks map[string]Check
}

// Check tells why a part is not ready, nil if it is. It must not wait.
type Check func() error

// New gives a set with a registry of its own that holds the metrics of the Go
// runtime, of the process, and egw_build_info.
func New() *Set {
	s := &Set{registry: prometheus.NewRegistry(), checks: map[string]Check{}}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "egw_build_info", Help: "Always 1; the label is the version of this build.",
		ConstLabels: prometheus.Labels{"version": version.String()},
	})
	build.Set(1)
	s.Register(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build)
	return s
}

// Register adds metrics. It panics when two have the same name: a mistake in
// this program.
func (s *Set) Register(metrics ...prometheus.Collector) { s.registry.MustRegister(metrics...) }

// Gather reads every metric once.
func (s *Set) Gather() prometheus.Gatherer { return s.registry }

// Check adds what the process must be to count as ready. A later check of the
// same name takes the place of the former.
func (s *Set) Check(name string, check Check) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks[name] = check
}

// Handler serves /metrics, /healthz and /readyz. /healthz is 200 as long as the
// process answers; /readyz is 503 while a check fails and says each in a line
// of its own.
func (s *Set) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.ready)
	return mux
}

func (s *Set) ready(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	checks := maps.Clone(s.checks)
	s.mu.Unlock()
	var text strings.Builder
	status := http.StatusOK
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		state := "ok"
		if err := checks[name](); err != nil {
			state, status = oneLine(err.Error()), http.StatusServiceUnavailable
		}
		fmt.Fprintf(&text, "%s: %s\n", name, state)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text.String())) // nobody is there to be told
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
