package loki

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/process"
)

var one = map[string]string{"service_name": "one"}

func push(t *testing.T, s *Server, entries ...Entry) {
	t.Helper()
	if err := s.Push(t.Context(), entries...); err != nil {
		t.Fatal(err)
	}
}

func lines(t *testing.T, s *Server, query string, from time.Time) []Entry {
	t.Helper()
	got, err := s.Lines(t.Context(), query, from, time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestWhatWasPushedIsReadBack(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	from := time.Now().Add(-time.Hour)
	want := []Entry{
		{Time: from, Line: `{"a":"1"}`, Labels: one, Metadata: map[string]string{"event_id": "x/1", "container_id": "c"}},
		{Time: from.Add(1), Line: "no metadata", Labels: map[string]string{"service_name": "two", "host": "h"}},
		{Time: from.Add(2), Line: `{"a":"1"}`, Labels: one, Metadata: map[string]string{"event_id": "x/3"}},
	}
	push(t, s, want...)
	push(t, s, want[0])
	if diff := cmp.Diff(want, lines(t, s, `{service_name=~".+"}`, from), equalTimes); diff != "" {
		t.Error(diff)
	}
	t.Run("a metric query counts it", func(t *testing.T) {
		got, err := s.Instant(t.Context(), `sum by (service_name, a) (count_over_time({service_name="one"} | json [2h]))`, time.Now())
		if diff := cmp.Diff([]Sample{{Labels: map[string]string{"service_name": "one", "a": "1"}, Value: 2}}, got); diff != "" || err != nil {
			t.Error(diff, err)
		}
	})
	t.Run("a range query gives every step", func(t *testing.T) {
		got, err := s.Range(t.Context(), `vector(7)`, from, from.Add(time.Minute), 30*time.Second)
		if err != nil || len(got) < 3 || got[2].Value != 7 {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("nothing is found where nothing is", func(t *testing.T) {
		if got := lines(t, s, `{service_name="three"}`, from); len(got) != 0 {
			t.Errorf("%v", got)
		}
		if got, err := s.Instant(t.Context(), `count_over_time({service_name="three"}[1h])`, time.Now()); len(got) != 0 || err != nil {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("a query that is none is an error", func(t *testing.T) {
		if _, err := s.Lines(t.Context(), `{`, from, time.Now()); err == nil || !strings.Contains(err.Error(), "parse error") {
			t.Errorf("err = %v", err)
		}
		if _, err := s.Instant(t.Context(), `{service_name="one"}`, time.Now()); err == nil {
			t.Error("lines are no values")
		}
	})
}

func TestEveryPageIsRead(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	from := time.Now().Add(-time.Hour)
	s.perPage = 100
	const n = 257
	var entries []Entry
	for i := range n {
		// Nine at a time, so that a page ends in the midst of some.
		e := Entry{Time: from.Add(time.Duration(i/9) * time.Millisecond), Line: fmt.Sprint(i), Labels: one}
		entries = append(entries, e)
	}
	push(t, s, entries...)
	seen := map[string]bool{}
	got := lines(t, s, `{service_name="one"}`, from)
	for _, e := range got {
		seen[e.Line] = true
	}
	if len(got) != n || len(seen) != n {
		t.Errorf("%d lines, %d of them different, want %d", len(got), len(seen), n)
	}
	if _, err := s.Lines(t.Context(), `{service_name="one"}`, from, from.Add(time.Nanosecond)); err != nil {
		t.Error(err)
	}
}

func TestMoreAtOneTimeThanAPageHoldsIsAnError(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	at := time.Now()
	s.perPage = 100
	entries := make([]Entry, s.perPage)
	for i := range entries {
		entries[i] = Entry{Time: at, Line: fmt.Sprint(i), Labels: one}
	}
	push(t, s, entries...)
	if _, err := s.Lines(t.Context(), `{service_name="one"}`, at, at.Add(time.Second)); err == nil || !strings.Contains(err.Error(), "one page") {
		t.Errorf("err = %v, want one that says it", err)
	}
}

func TestItComesBackWithItsData(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	from := time.Now()
	for i, stop := range []func() error{s.Kill, s.Stop} {
		push(t, s, Entry{Time: from.Add(time.Duration(i)), Line: fmt.Sprint(i), Labels: one})
		if err := errors.Join(stop(), stop()); err != nil {
			t.Fatal(err)
		}
		if err := s.Ready(t.Context()); err == nil {
			t.Fatal("it is ready, but ended")
		}
		if err := s.Launch(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Launch(t.Context()); err == nil {
			t.Fatal("launched twice")
		}
		if got := lines(t, s, `{service_name="one"}`, from); len(got) != i+1 {
			t.Errorf("%d lines after end %d", len(got), i)
		}
	}
}

func TestPausedItAnswersNothing(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v, want the deadline", err)
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, "it answers again", func() error { return s.Ready(t.Context()) })
	if err := errors.Join(s.Pause(), s.Kill()); err != nil || s.Pause() == nil {
		t.Errorf("a paused one is not killed, or a dead one is paused: %v", err)
	}
}

func TestTenantsAreToldApart(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{Tenants: true, Config: map[string]any{"limits_config": map[string]any{"max_label_names_per_series": 1}}})
	now := time.Now()
	push(t, s, Entry{Time: now, Line: "x", Labels: one})
	if got := lines(t, s, `{service_name="one"}`, now); len(got) != 1 {
		t.Errorf("%d lines", len(got))
	}
	res, err := http.Get(s.URL + "/loki/api/v1/labels")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a tenant: %s", res.Status)
	}
	err = s.Push(t.Context(), Entry{Time: now, Line: "x", Labels: map[string]string{"a": "1", "b": "2"}})
	if err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("the limit does not hold: %v", err)
	}
}

const rules = `
groups:
  - name: test
    rules:
      - alert: Seen
        expr: sum by (service_name) (count_over_time({service_name="one"}[1m])) > 1
        labels: {severity: warning}
        annotations: {summary: "{{ $value }} of {{ $labels.service_name }}"}
`

func TestTheRulersAlertsArrive(t *testing.T) {
	t.Parallel()
	manager := NewAlertmanager(t)
	s := Start(t, Options{Rules: rules, Alertmanager: manager.URL})
	if _, ok := manager.Last("Seen", nil); ok {
		t.Fatal("an alert without a line")
	}
	push(t, s, Entry{Time: time.Now(), Line: "1", Labels: one}, Entry{Time: time.Now(), Line: "2", Labels: one})
	var got Alert
	testutil.Eventually(t, "the alert arrives", func() error {
		var ok bool
		if got, ok = manager.Last("Seen", map[string]string{"severity": "warning", "service_name": "one"}); !ok {
			return fmt.Errorf("alerts: %v", manager.All())
		}
		return nil
	})
	if got.Resolved() || got.Annotations["summary"] != "2 of one" {
		t.Errorf("%+v", got)
	}
	if _, ok := manager.Last("Seen", map[string]string{"severity": "critical"}); ok {
		t.Error("an alert with other labels")
	}
	if err := s.SetRules(strings.Replace(rules, "Seen", "Changed", 1)); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, "the new rules are in force", func() error {
		if _, ok := manager.Last("Changed", nil); !ok {
			return errors.New("no alert yet")
		}
		return nil
	})
}

func TestAPortThatIsTakenIsToldFromOtherTrouble(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	second := &Server{program: s.program, dir: t.TempDir(), log: filepath.Join(t.TempDir(), "loki.log")}
	if err := second.configure(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(second.configPath())
	if err != nil {
		t.Fatal(err)
	}
	port := func(s *Server) string { return s.URL[strings.LastIndex(s.URL, ":")+1:] }
	text = bytes.ReplaceAll(text, []byte(`"http_listen_port": `+port(second)), []byte(`"http_listen_port": `+port(s)))
	if err := os.WriteFile(second.configPath(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	second.URL = s.URL
	if err := second.Launch(t.Context()); !errors.Is(err, process.ErrEnded) || !strings.Contains(second.Log(), "address already in use") {
		t.Errorf("err = %v, log %s", err, second.Log())
	}
}

// recorder notes that a test would have been skipped or failed.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Helper()                   {}
func (r *recorder) Skip(a ...any)             { r.skipped = fmt.Sprint(a...); panic(r) }
func (r *recorder) Fatalf(f string, a ...any) { r.failed = fmt.Sprintf(f, a...); panic(r) }

func TestWithoutLokiATestSkipsOrFails(t *testing.T) {
	for _, tc := range []struct{ name, folder, ci, skipped, failed string }{
		{name: "skips", skipped: "scripts/loki.sh"},
		{name: "fails in CI", ci: "1", failed: "scripts/loki.sh"},
		{name: "fails where it is not", folder: "/nowhere", failed: "/nowhere/loki"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv(EnvFolder, tc.folder)
			t.Setenv("CI", tc.ci)
			r := &recorder{}
			func() {
				defer func() { _ = recover() }()
				Program(r, "loki")
			}()
			if !strings.Contains(r.skipped, tc.skipped) || !strings.Contains(r.failed, tc.failed) || r.skipped+r.failed == "" {
				t.Errorf("skipped %q, failed %q", r.skipped, r.failed)
			}
		})
	}
}

var equalTimes = cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })
