package loki

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// Alert is one that a ruler sent.
type Alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
	// Received is when it arrived.
	Received time.Time `json:"-"`
}

// Name is what the rule is called.
func (a Alert) Name() string { return a.Labels["alertname"] }

// Resolved tells whether the ruler sent it as over.
func (a Alert) Resolved() bool { return !a.EndsAt.IsZero() && !a.EndsAt.After(a.Received) }

// Alertmanager takes alerts as an Alertmanager does, and keeps all of them.
type Alertmanager struct {
	// URL is for Options.
	URL string

	mu  sync.Mutex
	got []Alert
	bad error
}

// NewAlertmanager listens on loopback until the test ends, which fails if what
// arrived was no alert.
func NewAlertmanager(t testing.TB) *Alertmanager {
	t.Helper()
	a := &Alertmanager{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v2/alerts", a.take)
	server := httptest.NewServer(mux)
	a.URL = server.URL
	t.Cleanup(func() {
		server.Close()
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.bad != nil {
			t.Errorf("alerts not understood: %v", a.bad)
		}
	})
	return a
}

func (a *Alertmanager) take(w http.ResponseWriter, r *http.Request) {
	var alerts []Alert
	err := json.NewDecoder(r.Body).Decode(&alerts)
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.bad = fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, err)
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, alert := range alerts {
		alert.Received = now
		a.got = append(a.got, alert)
	}
}

// All is every alert in the order of arrival; one that goes on comes again and
// again.
func (a *Alertmanager) All() []Alert {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.got)
}

// Last is the newest of the alerts with a name and these labels.
func (a *Alertmanager) Last(name string, labels map[string]string) (Alert, bool) {
	all := a.All()
	for _, alert := range slices.Backward(all) {
		if alert.Name() == name && alert.has(labels) {
			return alert, true
		}
	}
	return Alert{}, false
}

func (a Alert) has(labels map[string]string) bool {
	for key, value := range labels {
		if a.Labels[key] != value {
			return false
		}
	}
	return true
}
