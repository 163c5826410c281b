package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/grafana/loki/pkg/push"
	"github.com/nats-io/nats.go"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/telemetry"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/schemas"
)

// fakeLoki answers pushes as a test wants and keeps what it took.
type fakeLoki struct {
	*httptest.Server
	t testing.TB

	mu     sync.Mutex
	judge  func(request) (status int, body string) // nil takes everything
	taken  map[string][]push.Entry                 // by labels, in order of arrival
	counts map[int]int                             // answers by status
	header http.Header                             // of the last request
	most   int                                     // bytes of a body, decoded

	// failures is what it says of its disk; they grow by growth at each look.
	failures, growth int
}

// request is one push.
type request struct {
	labels  string
	entries []push.Entry
}

func newFakeLoki(t testing.TB) *fakeLoki {
	f := &fakeLoki{t: t, taken: map[string][]push.Entry{}, counts: map[int]int{}}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeLoki) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && r.URL.Path == "/metrics" {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.failures += f.growth
		fmt.Fprintf(w, "# TYPE %[1]s counter\n%[1]s_more 1\n%[1]s %[2]d\n%[3]s 1.5e9\n", diskMetric, f.failures, startMetric)
		return
	}
	packed, err := io.ReadAll(r.Body)
	if err != nil {
		return // the collector has gone
	}
	body, err := snappy.Decode(nil, packed)
	var p push.PushRequest
	if err == nil {
		err = p.Unmarshal(body)
	}
	if err != nil || len(p.Streams) != 1 || r.URL.Path != pushPath {
		f.t.Errorf("bad push to %s of %d streams: %v", r.URL.Path, len(p.Streams), err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.header, f.most = r.Header.Clone(), max(f.most, len(body))
	q := request{p.Streams[0].Labels, p.Streams[0].Entries}
	status, text := http.StatusNoContent, ""
	if f.judge != nil {
		status, text = f.judge(q)
	}
	f.counts[status]++
	switch {
	case status == 0:
		panic(http.ErrAbortHandler)
	case status == http.StatusNoContent:
		f.taken[q.labels] = append(f.taken[q.labels], q.entries...)
	case status == http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "0")
	case status/100 == 3:
		w.Header().Set("Location", "http://user:secret@elsewhere.example.org/")
	}
	w.WriteHeader(status)
	if status != http.StatusNoContent {
		_, _ = io.WriteString(w, text)
	}
}

func (f *fakeLoki) answers(status int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[status]
}

func (f *fakeLoki) set(judge func(request) (int, string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.judge = judge
}

// always is the same answer to everything.
func always(status int, body string) func(request) (int, string) {
	return func(request) (int, string) { return status, body }
}

// ids are the ids of the distinct entries of a stream that are no control
// entries, in order of their first arrival.
func (f *fakeLoki) ids(labels string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []string
	lines := map[string]string{}
	for _, e := range f.taken[labels] {
		id := metadata(e, "event_id")
		if strings.Contains(id, "/control") {
			continue
		}
		text := fmt.Sprint(e.Timestamp.UnixNano(), e.Line, e.StructuredMetadata)
		if known, is := lines[id]; !is {
			lines[id] = text
			ids = append(ids, id)
		} else if known != text {
			f.t.Errorf("%s was repeated as %s, was %s", id, text, known)
		}
	}
	return ids
}

func metadata(e push.Entry, name string) string {
	for _, l := range e.StructuredMetadata {
		if l.Name == name {
			return l.Value
		}
	}
	return ""
}

// bench is an event log with a collector to be.
type bench struct {
	t      testing.TB
	server *eventlog.Server
	events *eventlog.Log
	said   said
	set    *telemetry.Set
	dir    string
}

func newBench(t testing.TB) *bench {
	t.Helper()
	server, err := eventlog.StartServer(eventlog.ServerOptions{Dir: filepath.Join(t.TempDir(), "nats")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &bench{t: t, server: server}
	b.events = b.connect()
	return b
}

// in is the same event log for a part of the test, with a log of its own.
func (b *bench) in(t testing.TB) *bench { return &bench{t: t, server: b.server, events: b.events} }

func (b *bench) connect() *eventlog.Log {
	b.t.Helper()
	l, err := eventlog.Connect(b.t.Context(), b.server.Options())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(l.Close)
	return l
}

func (b *bench) config(targets ...Target) Config {
	b.set = telemetry.New()
	return Config{
		Name: "collector@test", Targets: targets, Telemetry: b.set, Log: slog.New(slog.NewTextHandler(&b.said, nil)),
		wait: 2 * time.Millisecond, TakeoverSeconds: 1.5,
	}
}

// run collects until the test or the returned function ends it.
func (b *bench) run(events *eventlog.Log, cfg Config) (stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, events, cfg) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, eventlog.ErrClosed) {
			b.t.Errorf("run: %v", err)
		}
	})
	b.t.Cleanup(stop)
	return stop
}

func (b *bench) collect(targets ...Target) (stop func()) {
	return b.run(b.events, b.config(targets...))
}

// said is what was logged.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) count(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.text.String(), text)
}

// ready gives the answer of /readyz.
func (b *bench) ready() (int, string) {
	w := httptest.NewRecorder()
	b.set.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	return w.Code, w.Body.String()
}

const (
	testHost   = "web-1"
	flowLabels = `{host="web-1", service_name="egresswarden", verdict="deny", workload="shop/web"}`
)

// flow is the nth denial of the test's host.
func flow(n int, at time.Time) *schemas.Flow {
	return &schemas.Flow{
		Id: schemas.FlowID(testHost, "boot", uint64(n)), TimeNs: at.UnixNano(), Host: testHost, Workload: "shop/web", Policy: "shop/web",
		Verdict: schemas.Verdict_VERDICT_DENY, Count: 2, Container: "shop-web-1", ContainerId: "c0ffee", Mode: schemas.Mode_MODE_BLOCK,
		Proto: 6, DstIp: []byte{198, 51, 100, byte(n)}, DstPort: 443, Comm: "curl", Pid: 7, Hook: "connect",
	}
}

// publish writes flows numbered from first to before last, a millisecond apart
// and changed by change, each run of them a message.
func (b *bench) publish(first, last, run int, change ...func(int, *schemas.Flow)) {
	b.t.Helper()
	w := b.events.FlowWriter(testHost, "boot")
	defer w.Close()
	base := time.Now().Add(-time.Minute)
	for ; first < last; first += run {
		var flows []*schemas.Flow
		for n := first; n < min(first+run, last); n++ {
			f := flow(n, base.Add(time.Duration(n)*time.Millisecond))
			for _, c := range change {
				c(n, f)
			}
			flows = append(flows, f)
		}
		if err := w.Write(b.t.Context(), flows, uint64(min(first+run, last))); err != nil {
			b.t.Fatal(err)
		}
		if err := w.Flush(b.t.Context()); err != nil {
			b.t.Fatal(err)
		}
	}
}

// raw appends bytes to a subject.
func (b *bench) raw(subject string, data []byte) {
	b.t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(b.server))
	if err != nil {
		b.t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Request(subject, data, testutil.Long); err != nil {
		b.t.Fatal(err)
	}
}

// pending asks how many messages a target lacks, all streams together.
func (b *bench) pending(t Target) uint64 {
	b.t.Helper()
	n := uint64(0)
	for _, stream := range streams {
		s, err := b.events.Consumer(eventlog.ConsumerOptions{Stream: stream, Name: t.consumer()}).Status(b.t.Context())
		if err != nil {
			return 1 << 32
		}
		n += s.Pending
	}
	return n
}

func (b *bench) drained(t Target) {
	b.t.Helper()
	testutil.Eventually(b.t, "nothing pending", func() error {
		if n := b.pending(t); n != 0 {
			return fmt.Errorf("%d pending", n)
		}
		return nil
	})
}

// letters are the dead letters there are.
func (b *bench) letters() []eventlog.DeadLetter {
	b.t.Helper()
	var all []eventlog.DeadLetter
	for d, err := range b.events.DeadLetters(b.t.Context(), eventlog.Query[eventlog.DeadEntry]{}) {
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, d.Letter)
	}
	return all
}

// wantIDs waits until the stream has exactly these flows.
func (f *fakeLoki) wantIDs(labels string, want []string) {
	f.t.Helper()
	testutil.Eventually(f.t, "all flows in Loki", func() error {
		if got := f.ids(labels); len(got) != len(want) {
			return fmt.Errorf("%d of %d", len(got), len(want))
		}
		return nil
	})
	if got := f.ids(labels); !slices.Equal(got, want) {
		f.t.Errorf("%s has other flows, or in another order, than was written", labels)
	}
}

// idsBut are the ids of the flows before last, without some.
func idsBut(last int, without ...int) []string {
	var ids []string
	for n := range last {
		if !slices.Contains(without, n) {
			ids = append(ids, schemas.FlowID(testHost, "boot", uint64(n)))
		}
	}
	return ids
}
