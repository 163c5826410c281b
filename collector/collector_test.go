package collector

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grafana/loki/pkg/push"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/schemas"
)

func TestEveryEventReachesLokiUnderItsLabels(t *testing.T) {
	b, f := newBench(t), newFakeLoki(t)
	target := Target{URL: f.URL}
	b.publish(0, 5000, 100, func(n int, f *schemas.Flow) { // time runs backwards within a message
		f.TimeNs += int64(100-2*(n%100)) * int64(time.Millisecond)
	})
	host := &schemas.HostEvent{TimeNs: time.Now().UnixNano(), Host: "web-2", Kind: "label.invalid", Message: "a \"label\""}
	policy := &schemas.PolicyEvent{TimeNs: time.Now().UnixNano(), Policy: "*", Actor: "alice"}
	if err := b.events.PublishHost(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	if _, err := b.events.AppendPolicy(t.Context(), policy, 0); err != nil {
		t.Fatal(err)
	}
	b.collect(target)
	testutil.Eventually(t, "all flows in Loki", func() error {
		if n := len(f.ids(flowLabels)); n != 5000 {
			return fmt.Errorf("%d of 5000", n)
		}
		return nil
	})
	b.drained(target)
	f.mu.Lock()
	defer f.mu.Unlock()
	last := int64(0)
	for _, e := range f.taken[flowLabels] {
		if at := e.Timestamp.UnixNano(); at >= last {
			last = at
		} else if last-at > int64(100*time.Millisecond) {
			t.Fatalf("%v comes after %v", at, last)
		}
		var line struct{ ID, Verdict string }
		if err := json.Unmarshal([]byte(e.Line), &line); err != nil || line.ID != metadata(e, "event_id") || line.Verdict != "deny" {
			t.Fatalf("line %s with %v: %v", e.Line, e.StructuredMetadata, err)
		}
		if metadata(e, "container_id") != "c0ffee" || len(e.StructuredMetadata) != 2 {
			t.Fatalf("metadata %v", e.StructuredMetadata)
		}
	}
	if f.most > batchBytes+batchBytes/4 {
		t.Errorf("a request had %d bytes", f.most)
	}
	wantVerbatim(t, f.taken[`{host="web-2", service_name="egresswarden-host"}`], host.Kind, "EGW_HOSTS:")
	wantVerbatim(t, f.taken[`{service_name="egresswarden-policy", workload="*"}`], "alice", "EGW_POLICY:1")
}

func wantVerbatim(t *testing.T, entries []push.Entry, text, id string) {
	t.Helper()
	if len(entries) != 1 || !strings.Contains(entries[0].Line, text) || !strings.HasPrefix(metadata(entries[0], "event_id"), id) {
		t.Errorf("want one entry with %s and id %s, got %v", text, id, entries)
	}
}

func TestWhatIsNoProofIsHeldAndNamed(t *testing.T) {
	b := newBench(t)
	b.publish(0, 40, 10)
	for n, c := range []struct {
		name   string
		status int
		body   string
		says   string
	}{
		{"an empty 200", 200, "", "only 204 proves"},
		{"a redirect", 302, "", "set url to where the push API is"},
		{"no credentials", 401, "authentication required", "credentials are wrong"},
		{"no tenant", 401, "no org id", "set tenant"},
		{"forbidden", 403, "", "credentials are wrong"},
		{"another path", 404, "404 page not found", "no push API"},
		{"the rate limit", 429, "Ingestion rate limit exceeded for user fake (limit: 4194304 bytes/sec)", "raise ingestion_rate_mb"},
		{"a fault", 500, "empty ring", "in trouble"},
		{"a full disk", 500, "write: no space left on device", "make room there"},
		{"a gateway", 502, "<html>Bad Gateway</html>", "in trouble"},
		{"no answer", 0, "", "cannot be reached"},
		{"a proxy's 400", 400, "<html>400 Bad Request</html>", "look at the proxy"},
		{"a proxy's 413", 413, "<html>too large</html>", "look at the proxy"},
		{"a refusal of everything in Loki's words", 400, "entry for stream '{}' has timestamp too old: 2026-01-01T00:00:00Z, oldest acceptable timestamp is: 2099-01-01T00:00:00Z", "refuses even"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, f := b.in(t), newFakeLoki(t)
			target := Target{Name: fmt.Sprint("loki-", n), URL: f.URL}
			f.set(always(c.status, c.body))
			defer b.collect(target)()
			testutil.Eventually(t, "many attempts", func() error {
				if n := f.answers(c.status); n < 40 {
					return fmt.Errorf("%d answers", n)
				}
				return nil
			})
			if n := b.pending(target); n < 4 {
				t.Errorf("%d messages are pending, want none acknowledged", n)
			}
			if code, text := b.ready(); code != http.StatusServiceUnavailable || !strings.Contains(text, c.says) {
				t.Errorf("ready answers %d: %s; want %q", code, text, c.says)
			}
			if n := b.said.count(c.says); n != 1 {
				t.Errorf("%q was logged %d times", c.says, n)
			}
			if b.said.count("secret") != 0 {
				t.Error("a password was logged")
			}
			f.set(nil)
			f.wantIDs(flowLabels, idsBut(40))
			b.drained(target)
			if code, text := b.ready(); code != http.StatusOK {
				t.Errorf("ready answers %d afterwards: %s", code, text)
			}
			if d := b.letters(); len(d) != 0 {
				t.Errorf("parked: %+v", d)
			}
		})
	}
}

func TestUnreadableMessagesAreParkedWhole(t *testing.T) {
	b, f := newBench(t), newFakeLoki(t)
	target := Target{URL: f.URL}
	b.publish(0, 10, 10)
	large := make([]byte, wholeBytes+1)
	for subject, data := range map[string][]byte{
		"egw.flows.x": []byte("junk"), "egw.flows.y": large, "egw.hosts.x": []byte("{"), "egw.policy.x": []byte(`{"policy":7}`),
	} {
		b.raw(subject, data)
	}
	b.publish(10, 20, 10)
	b.collect(target)
	f.wantIDs(flowLabels, idsBut(20))
	b.drained(target)
	letters := b.letters()
	if len(letters) != 4 {
		t.Fatalf("parked %d letters, want 4", len(letters))
	}
	for _, d := range letters {
		if d.Reason != "unreadable" || len(d.Payload) == 0 || d.Error == "" || d.Sequence == 0 || d.Consumer != target.consumer() {
			t.Errorf("letter %+v", d)
		}
	}
}

func TestALargeMessageIsDeliveredInParts(t *testing.T) {
	const n = 20_000
	var data []byte
	at := time.Now().Add(-time.Minute)
	for i := range n {
		e := flow(i, at.Add(time.Duration(i)))
		e.Comm = strings.Repeat("x", 1000)
		data = schemas.AppendBatched(data, e)
	}
	if len(data) < 2*partBytes {
		t.Fatal("not large enough")
	}
	// More than a message of the event log has: straight into the decoder.
	w := &worker{target: "loki", stream: schemas.StreamFlows, metrics: newMetrics(nil)}
	sink := &countingSink{}
	w.sink = sink
	if err := w.deliver(t.Context(), []eventlog.Message{{Stream: schemas.StreamFlows, Sequence: 1, Data: data}}); err != nil {
		t.Fatal(err)
	}
	if sink.n != n || sink.rounds < 2 || sink.most > partBytes+1<<20 {
		t.Errorf("%d events in %d rounds of at most %d bytes", sink.n, sink.rounds, sink.most)
	}
}

func TestOneTargetThatIsAwayHoldsNoOther(t *testing.T) {
	b, away, there := newBench(t), newFakeLoki(t), newFakeLoki(t)
	first, second := Target{Name: "away", URL: away.URL}, Target{Name: "there", URL: there.URL}
	away.set(always(503, ""))
	b.publish(0, 300, 10)
	b.collect(first, second)
	there.wantIDs(flowLabels, idsBut(300))
	b.drained(second)
	if n := b.pending(first); n < 30 {
		t.Errorf("%d messages are pending for the one that is away, want 30", n)
	}
	away.set(nil)
	away.wantIDs(flowLabels, idsBut(300))
	b.drained(first)
}

func TestAnotherCollectorTakesOver(t *testing.T) {
	b, f := newBench(t), newFakeLoki(t)
	target := Target{URL: f.URL}
	one, two := b.connect(), b.connect()
	b.publish(0, 300, 10)
	cfg := b.config(target)
	stop := b.run(one, cfg)
	f.wantIDs(flowLabels, idsBut(300))
	f.set(always(http.StatusServiceUnavailable, ""))
	b.publish(300, 1000, 10)
	testutil.Eventually(t, "the first holds some", func() error {
		if f.answers(http.StatusServiceUnavailable) == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	cfg.Name, cfg.Telemetry = "collector@other", nil
	b.run(two, cfg)
	one.Close() // as a kill: nothing is said good-bye to
	f.set(nil)
	b.publish(1000, 1100, 10)
	f.wantIDs(flowLabels, idsBut(1100))
	b.drained(target)
	stop()
}

func TestTheCollectorTellsOfItself(t *testing.T) {
	b, f := newBench(t), newFakeLoki(t)
	old := func(_ int, f *schemas.Flow) { f.TimeNs -= int64(time.Hour) }
	b.publish(0, 3, 1, old)
	cfg := b.config(Target{URL: f.URL})
	cfg.aliveEvery = 20 * time.Millisecond
	b.run(b.events, cfg)
	got := map[string]float64{}
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Long)
	defer cancel()
	for e, err := range b.events.HostEvents(ctx, eventlog.HostQuery{Host: cfg.Name, Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.GetKind() != schemas.KindCollectorAlive {
			t.Fatalf("unexpected event %v", e)
		}
		for _, key := range []string{"pending", "lag_seconds", "delivered", "dead", "late_denials", "retries"} {
			n, err := strconv.ParseFloat(e.GetDetail()[key], 64)
			if err != nil {
				t.Fatalf("%s of %v: %v", key, e.GetDetail(), err)
			}
			if key == "late_denials" {
				got[key] += n
			} else {
				got[key] = n
			}
		}
		if got["late_denials"] >= 6 && got["delivered"] > 3 {
			break
		}
	}
	if got["late_denials"] != 6 || got["dead"] != 0 || got["retries"] != 0 {
		t.Errorf("it told %v, want 6 late denials", got)
	}
	hosts, err := b.events.Hosts(t.Context())
	if err != nil || len(hosts) != 1 || hosts[0] != testHost {
		t.Errorf("hosts are %v, %v; the collector is none", hosts, err)
	}
	f.wantIDs(flowLabels, idsBut(3))
}
