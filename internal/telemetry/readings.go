package telemetry

import "github.com/prometheus/client_golang/prometheus"

// Readings are metrics that are read when somebody asks. Describe each with
// Counter or Gauge, then Collect what there is.
type Readings struct {
	prefix string
	descs  map[string]reading
	read   func(tell func(name string, value float64, labels ...string))
}

type reading struct {
	*prometheus.Desc
	prometheus.ValueType
}

// NewReadings gives metrics whose names begin with the prefix. Read is called
// at each scrape, from any goroutine; it tells each value with its labels in
// the order of their description. What it does not tell is not there.
func NewReadings(prefix string, read func(tell func(name string, value float64, labels ...string))) *Readings {
	return &Readings{prefix: prefix, descs: map[string]reading{}, read: read}
}

// Counter describes what only grows.
func (r *Readings) Counter(name, help string, labels ...string) {
	r.descs[name] = reading{prometheus.NewDesc(r.prefix+name, help, labels, nil), prometheus.CounterValue}
}

// Gauge describes what goes up and down.
func (r *Readings) Gauge(name, help string, labels ...string) {
	r.descs[name] = reading{prometheus.NewDesc(r.prefix+name, help, labels, nil), prometheus.GaugeValue}
}

// Describe is the registry's.
func (r *Readings) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range r.descs {
		descs <- d.Desc
	}
}

// Collect is the registry's. A value without a description is a mistake in this
// program, and fails the scrape.
func (r *Readings) Collect(metrics chan<- prometheus.Metric) {
	r.read(func(name string, value float64, labels ...string) {
		d := r.descs[name]
		if d.Desc == nil {
			d.Desc = prometheus.NewInvalidDesc(undescribed(r.prefix + name))
		}
		m, err := prometheus.NewConstMetric(d.Desc, d.ValueType, value, labels...)
		if err != nil {
			m = prometheus.NewInvalidMetric(d.Desc, err)
		}
		metrics <- m
	})
}

// undescribed is the name of a metric that nobody described.
type undescribed string

// Error says so.
func (u undescribed) Error() string { return "metric " + string(u) + " has no description" }
