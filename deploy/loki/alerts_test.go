package loki

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/loki"
	"github.com/egresswarden/egresswarden/internal/testutil/scene"
	"github.com/egresswarden/egresswarden/schemas"
)

const (
	minute = time.Minute
	hour   = time.Hour
	allow  = schemas.Verdict_VERDICT_ALLOW
	deny   = schemas.Verdict_VERDICT_DENY
)

// hurry is how much shorter the times are in the copy of the denial rules whose
// end a test can wait for, and hurried what their names end in.
const (
	hurry   = 20
	hurried = "Hurried"
)

var durations = regexp.MustCompile(`(\[|offset )(\d+)([mhd])`)

// ruleset is the shipped file, evaluated as often as the server does, and a copy
// of the denial rules in a hurry.
func ruleset(t *testing.T) string {
	t.Helper()
	f := readRules(t)
	quick := f.Groups[0]
	quick.Name, quick.Rules = quick.Name+hurried, slices.Clone(quick.Rules)
	for i, r := range quick.Rules {
		quick.Rules[i].Alert = r.Alert + hurried
		quick.Rules[i].Expr = durations.ReplaceAllStringFunc(r.Expr, func(text string) string {
			m := durations.FindStringSubmatch(text)
			n, _ := strconv.Atoi(m[2])
			seconds := n * map[string]int{"m": 60, "h": 3600, "d": 86400}[m[3]]
			return m[1] + strconv.Itoa(seconds/hurry) + "s"
		})
	}
	f.Groups = append(f.Groups, quick)
	for i := range f.Groups {
		f.Groups[i].Interval = ""
	}
	text, err := yaml.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// firing are the alerts that arrived as such, apart from those in a hurry, each
// with the labels that tell it from its like.
func firing(a *loki.Alertmanager) []string {
	seen := map[string]bool{}
	for _, alert := range a.All() {
		if alert.Resolved() || strings.HasSuffix(alert.Name(), hurried) {
			continue
		}
		text := alert.Name()
		for _, key := range slices.Sorted(maps.Keys(alert.Labels)) {
			if key != "alertname" && key != "severity" && key != "service_name" {
				text += " " + key + "=" + alert.Labels[key]
			}
		}
		seen[text] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// expect waits for all of these, and then for two evaluations more that bring
// nothing else.
func expect(t *testing.T, s *loki.Server, a *loki.Alertmanager, want ...string) {
	t.Helper()
	want = slices.Sorted(slices.Values(want)) // the caller goes on with its own
	testutil.Eventually(t, "the alerts arrive", func() error {
		got := firing(a)
		for _, w := range want {
			if !slices.Contains(got, w) {
				return fmt.Errorf("%s is missing; got %q; rules: %w", w, got, s.Evaluated(t.Context(), time.Time{}))
			}
		}
		return nil
	})
	for range 2 {
		now := time.Now()
		testutil.Eventually(t, "the rules are evaluated", func() error { return s.Evaluated(t.Context(), now) })
	}
	if diff := cmp.Diff(want, firing(a)); diff != "" {
		t.Errorf("alerts (- wanted, + got):\n%s", diff)
	}
}

func TestAlertsFireWhereTheyShouldAndNowhereElse(t *testing.T) {
	a := loki.NewAlertmanager(t)
	// Small blocks, so that redelivered entries are counted twice at once.
	l := loki.Start(t, loki.Options{
		Alertmanager: a.URL, Config: map[string]any{"ingester": map[string]any{"chunk_block_size": 512}},
	})
	s := scene.New(t)
	want := slices.Concat(denials(s), enforcers(s), losses(s))
	redelivered(t, s, l)
	s.Push(l)
	if err := l.SetRules(ruleset(t)); err != nil {
		t.Fatal(err)
	}
	expect(t, l, a, append(want, "EgwCollectorSilent")...)

	want = append(want, collectors(s)...)
	s.Push(l)
	expect(t, l, a, append(want, "EgwCollectorSilent")...)
	endsInSilence(t, s, l, a)
}

// endsInSilence sees alerts come to an end.
func endsInSilence(t *testing.T, s *scene.Scene, l *loki.Server, a *loki.Alertmanager) {
	t.Helper()
	burst := map[string]string{"workload": "burst"}
	spike, first := "EgwDenySpike"+hurried, "EgwFirstDenial"+hurried
	testutil.Eventually(t, "the burst is told", func() error {
		if _, ok := a.Last(spike, burst); ok {
			return nil
		}
		s.Now = time.Now()
		s.Flow(0, "burst", deny, 500, nil)
		s.Push(l)
		return errors.New("no alert yet")
	})
	for name, labels := range map[string]map[string]string{spike: burst, first: burst, "EgwCollectorSilent": nil} {
		testutil.Eventually(t, name+" is over", func() error {
			if alert, ok := a.Last(name, labels); !ok || !alert.Resolved() {
				return fmt.Errorf("last: %v %+v", ok, alert)
			}
			return nil
		})
	}
}

// denials gives the alerts that it makes.
func denials(s *scene.Scene) []string {
	s.Denials("steady", 125*minute, 0, 40)
	s.Denials("noisy once", 125*minute, 0, 40)
	s.Denials("spiky", 125*minute, 0, 4)
	s.Flow(0, "spiky", deny, 150, nil)
	s.Flow(0, "new", deny, 101, nil)
	s.Flow(0, "allowed", allow, 1000, nil)
	s.Flow(0, "learning", schemas.Verdict_VERDICT_WOULD_DENY, 1000, nil)
	s.Flow(3*hour, "denied before", deny, 1, nil)
	s.Flow(0, "denied before", deny, 100, nil)
	s.Flow(0, "quiet", deny, 1, func(f *schemas.Flow) {
		f.DstIp, f.DstPort, f.Comm = []byte{198, 51, 100, 7}, 25, `"reason":"doctor"`
	})
	for _, n := range []uint64{1, 500} {
		s.Flow(0, "egw-doctor", deny, n, func(f *schemas.Flow) { f.Reason, f.Policy = schemas.ReasonDoctor, "" })
	}
	for i := range 700 { // more destinations than Loki lets a query have series
		s.Flow(time.Duration(i), "scan", deny, 1, func(f *schemas.Flow) { f.DstIp = []byte{10, 0, byte(i >> 8), byte(i)} })
	}
	return []string{
		"EgwDenySpike workload=spiky",
		"EgwDenySpike workload=scan", "EgwFirstDenial workload=scan",
		"EgwDenySpike workload=new", "EgwFirstDenial dst_ip=192.0.2.1 dst_port=443 workload=new",
		"EgwFirstDenial dst_ip=198.51.100.7 dst_port=25 workload=quiet",
	}
}

func enforcers(s *scene.Scene) []string {
	for _, host := range []string{"well", "ill", "mended", "hiccup", "behind"} {
		s.Alive(50*minute, host)
	}
	s.Alive(50*minute, "silent")
	s.Alive(16*minute, "silent")
	s.Alive(20*minute, "well")
	s.Alive(minute, "well", "log_revision", "10") // the log went on a minute ago
	s.Alive(6*minute, "ill", "problems", "2", "problem", "docker: away")
	s.Alive(minute, "ill", "problems", "1", "problem", "docker: away")
	s.Alive(6*minute, "mended", "problems", "1")
	s.Alive(minute, "mended")
	s.Alive(6*minute, "hiccup")
	s.Alive(minute, "hiccup", "problems", "1")
	s.Alive(minute, "behind", "revision", "8")
	s.Alive(minute, "first", "revision", "9", "learning_workload", "slow", "learning_seconds", "1300000")
	s.Alive(minute, "second", "revision", "9", "learning_workload", "fast", "learning_seconds", "1100000")
	s.Event(minute, "off", "gate.detached", nil)
	s.Event(minute, "ill", "policy.applied", nil)
	s.Event(minute, "well", "docker.lost", func(e *schemas.HostEvent) {
		e.Message = "dns.unusual gate.detached container.uncovered label.invalid policy.invalid outbox.full"
	})
	s.Event(minute, "well", "policy.invalid", func(e *schemas.HostEvent) { e.Policy = "shop/web" })
	s.Event(minute, "well", "policylog.lost", nil)
	s.Event(minute, "well", "label.invalid", func(e *schemas.HostEvent) { e.Container = "c1" })
	s.Event(minute, "well", "container.uncovered", func(e *schemas.HostEvent) { e.Container = "c2" })
	s.Event(minute, "well", "dns.unusual", func(e *schemas.HostEvent) { e.Container = "c3" })
	return []string{
		"EgwEnforcerSilent host=silent", "EgwEnforcerProblem host=ill", "EgwHostBehind host=behind", "EgwLearningTooLong workload=slow",
		"EgwGateDetached host=off", "EgwPolicyInvalid host=well policy=shop/web", "EgwPolicyInvalid host=well",
		"EgwLabelInvalid container=c1 host=well", "EgwContainerUncovered container=c2 host=well", "EgwDnsUnusual container=c3 host=well",
	}
}

func losses(s *scene.Scene) []string {
	s.Flow(minute, "flooded", allow, 5000, func(f *schemas.Flow) { f.Host, f.Reason, f.DstIp = "flooded", "overflow", nil })
	s.Event(minute, "full", "outbox.full", func(e *schemas.HostEvent) { e.Count = 12 })
	s.Event(minute, "dropped", "hostevents.dropped", func(e *schemas.HostEvent) { e.Count = 3 })
	s.Flow(minute, "chatty", allow, 1, func(f *schemas.Flow) { f.Reason, f.Comm = "reply", `"reason":"overflow"` })
	return []string{"EgwEventsLost host=flooded", "EgwEventsLost host=full", "EgwEventsLost host=dropped"}
}

func collectors(s *scene.Scene) []string {
	for _, name := range []string{"c fine", "c slow", "c late", "c dead", "c dead before"} {
		dead := "0"
		if name == "c dead before" {
			dead = "4"
		}
		s.Collector(30*minute, name, "dead", dead)
	}
	s.Collector(5*minute, "c fine", "lag_seconds", "900")
	s.Collector(0, "c fine")
	s.Collector(0, "c slow", "lag_seconds", "901")
	s.Collector(20*minute, "c late", "late_denials", "17")
	s.Collector(0, "c late")
	s.Collector(0, "c dead", "dead", "4")
	s.Collector(0, "c dead before", "dead", "4")
	return []string{"EgwCollectorLag host=c slow", "EgwLateDenials host=c late", "EgwDeadLetters host=c dead"}
}

// redelivered adds what must not alert though Loki counts it twice, and sees
// that it does.
func redelivered(t *testing.T, s *scene.Scene, l *loki.Server) {
	t.Helper()
	again := scene.New(t)
	again.Denials("twice", 125*minute, 0, 40)
	again.Alive(6*minute, "twice")
	again.Alive(minute, "twice", "problems", "1")
	entries := again.Entries
	again.Push(l)
	count := func() float64 {
		got, err := l.Instant(t.Context(), `sum(sum_over_time({workload="twice"} | json n="count" | unwrap n [5m]))`, s.Now)
		if err != nil || len(got) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
		return got[0].Value
	}
	once := count()
	// What is an hour behind the newest of its stream Loki refuses.
	again.Entries = slices.DeleteFunc(entries, func(e loki.Entry) bool { return e.Time.Before(s.Now.Add(-50 * minute)) })
	again.Push(l)
	if twice := count(); twice < 1.5*once {
		t.Fatalf("counted %v, and %v after redelivery: nothing is doubled, so nothing is shown", once, twice)
	}
}
