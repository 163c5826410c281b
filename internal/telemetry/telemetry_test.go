package telemetry

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"
)

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestMetricsHoldOursTheProcessesAndTheBuild(t *testing.T) {
	s := New()
	n := prometheus.NewCounter(prometheus.CounterOpts{Name: "egw_test_things_total", Help: "x"})
	n.Add(3)
	s.Register(n)
	code, text := get(t, s.Handler(), "/metrics")
	for _, want := range []string{"egw_test_things_total 3", `egw_build_info{version="`, "go_goroutines ", "process_resident_memory_bytes "} {
		if code != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("/metrics answers %d without %q", code, want)
		}
	}
}

func TestTwoSetsShareNothing(t *testing.T) {
	for range 2 {
		New().Register(prometheus.NewCounter(prometheus.CounterOpts{Name: "egw_test_things_total"}))
	}
}

func TestReadiness(t *testing.T) {
	s := New()
	if code, _ := get(t, s.Handler(), "/readyz"); code != http.StatusOK {
		t.Errorf("without checks it answers %d", code)
	}
	var failing error
	s.Check("nats", func() error { return nil })
	s.Check("docker", func() error { return failing })
	for err, want := range map[error]struct {
		code int
		text string
	}{
		nil:                            {http.StatusOK, "docker: ok\nnats: ok\n"},
		errors.New("away:\n refused "): {http.StatusServiceUnavailable, "docker: away: refused\nnats: ok\n"},
	} {
		failing = err
		if code, text := get(t, s.Handler(), "/readyz"); code != want.code || text != want.text {
			t.Errorf("with %v it answers %d %q, want %+v", err, code, text, want)
		}
		if code, _ := get(t, s.Handler(), "/healthz"); code != http.StatusOK {
			t.Errorf("with %v the process does not live: %d", err, code)
		}
	}
}

func TestAddresses(t *testing.T) {
	for text, ok := range map[string]bool{
		"": true, "127.0.0.1:9741": true, "[::1]:0": true, "127.3.2.1:1": true,
		"0.0.0.0:9741": false, ":9741": false, "192.0.2.1:9741": false, "[::]:1": false, "localhost:9741": false, "127.0.0.1": false,
	} {
		a := Default(text)
		if err := a.Validate(); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		} else if err != nil && !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%q: the error names no cure: %v", text, err)
		}
	}
}

func TestAnAddressKnowsWhetherItWasGiven(t *testing.T) {
	cfg := struct {
		Listen Address `yaml:"listen_metrics"`
	}{Default("127.0.0.1:9741")}
	if err := yaml.Unmarshal([]byte("{}"), &cfg); err != nil || cfg.Listen.Given {
		t.Errorf("%+v, %v", cfg, err)
	}
	for _, text := range []string{"127.0.0.1:9741", ""} {
		if err := yaml.Unmarshal([]byte("listen_metrics: '"+text+"'"), &cfg); err != nil || cfg.Listen != (Address{text, true}) {
			t.Errorf("%q: %+v, %v", text, cfg, err)
		}
	}
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	a := Default("127.0.0.1:1")
	flags.Var(&a, "metrics", "")
	if err := flags.Parse([]string{"-metrics", "[::1]:2"}); err != nil || a != (Address{"[::1]:2", true}) {
		t.Errorf("%+v, %v", a, err)
	}
	if err := flags.Parse([]string{"-metrics", "0.0.0.0:2"}); err == nil {
		t.Error("a flag with an address for all is taken")
	}
}

func TestOfTwoProcessesOneHasTheAddress(t *testing.T) {
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	first, err := New().Listen(Address{Text: "127.0.0.1:0"}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := New().Listen(Default(first.Addr()), log)
	if err != nil || second.Addr() != "" || !strings.Contains(said.String(), "no metrics") {
		t.Errorf("a default that is taken: %v, %q, said %s", err, second.Addr(), &said)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	_, err = New().Listen(Address{first.Addr(), true}, log)
	if err == nil || !strings.Contains(err.Error(), first.Addr()) {
		t.Errorf("one that was given and is taken: %v", err)
	}
}

func TestAServerServesUntilItsEnd(t *testing.T) {
	s, err := New().Listen(Default("127.0.0.1:0"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + s.Addr() + "/healthz")
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", answer, err)
	}
	answer.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if l, err := net.Listen("tcp", s.Addr()); err != nil {
		t.Errorf("the address is still taken: %v", err)
	} else {
		l.Close()
	}
}

func TestBesideEndsWithTheWork(t *testing.T) {
	s, err := New().Listen(Default("127.0.0.1:0"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	want := errors.New("worn out")
	if err := s.Beside(t.Context(), func(context.Context) error { return want }); !errors.Is(err, want) {
		t.Errorf("ended with %v", err)
	}
	if _, err := net.Dial("tcp", s.Addr()); err == nil {
		t.Error("it still listens")
	}
}

func TestNowhereIsNoServer(t *testing.T) {
	s, err := New().Listen(Address{Given: true}, slog.New(slog.DiscardHandler))
	if err != nil || s.Addr() != "" {
		t.Fatalf("%q, %v", s.Addr(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestReadings(t *testing.T) {
	undescribed := false
	r := NewReadings("egw_test_", func(tell func(string, float64, ...string)) {
		tell("level", 2, "low")
		if undescribed {
			tell("surprise", 1)
		}
	})
	r.Gauge("level", "x", "of")
	r.Counter("absent_total", "Not told.")
	s := New()
	s.Register(r)
	_, text := get(t, s.Handler(), "/metrics")
	if !strings.Contains(text, `egw_test_level{of="low"} 2`) || strings.Contains(text, "absent") {
		t.Error(text)
	}
	undescribed = true
	if _, err := s.Gather().Gather(); err == nil || !strings.Contains(err.Error(), "egw_test_surprise") {
		t.Errorf("a metric that nobody described: %v", err)
	}
}
