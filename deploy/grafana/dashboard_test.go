// Package grafana holds the dashboard to what it shows, on a real Loki.
package grafana

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/egresswarden/egresswarden/internal/testutil/loki"
	"github.com/egresswarden/egresswarden/internal/testutil/scene"
	"github.com/egresswarden/egresswarden/schemas"
)

// The parts of a dashboard that the tests look at.
type (
	source struct{ Type, UID string }
	target struct {
		Datasource             source
		Expr, QueryType, RefID string
	}
	panel struct {
		ID          int
		Type, Title string
		Datasource  source
		GridPos     struct{ X, Y, W, H int }
		Targets     []target
	}
	variable struct {
		Name, Type string
		Datasource source
		Query      json.RawMessage
	}
	annotation struct {
		Name       string
		BuiltIn    int
		Datasource source
		Target     target
	}
	dashboard struct {
		UID, Title    string
		ID            *int
		SchemaVersion int
		Panels        []panel
		Templating    struct{ List []variable }
		Annotations   struct{ List []annotation }
	}
)

func read(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	text, err := os.ReadFile("egresswarden.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestGrafanaTakesTheDashboard(t *testing.T) {
	d := read(t)
	if d.UID != "egresswarden" || d.Title == "" || d.ID != nil || d.SchemaVersion < 36 {
		t.Errorf("uid %q, title %q, id %v, schema %d", d.UID, d.Title, d.ID, d.SchemaVersion)
	}
	chosen := source{"loki", "${loki}"}
	ids, cells := map[int]string{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if other, taken := ids[p.ID]; taken || p.ID == 0 || p.Title == "" {
			t.Errorf("panel %q has number %d, as %q", p.Title, p.ID, other)
		}
		ids[p.ID] = p.Title
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, taken := cells[[2]int{x, y}]; taken || x >= 24 {
					t.Fatalf("panel %q lies over %q, or over the edge", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" && (len(p.Targets) == 0 || p.Datasource != chosen) {
			t.Errorf("panel %q asks %v of %v", p.Title, p.Targets, p.Datasource)
		}
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if q.Datasource != chosen || refs[q.RefID] || q.RefID == "" {
				t.Errorf("panel %q: query %q of %v", p.Title, q.RefID, q.Datasource)
			}
			refs[q.RefID] = true
		}
	}
	for _, v := range d.Templating.List {
		if v.Type == "query" && v.Datasource != chosen {
			t.Errorf("variable %s is of %v", v.Name, v.Datasource)
		}
	}
}

func TestProvisioningNamesWhatIsThere(t *testing.T) {
	for name, key := range map[string]string{"dashboards.yaml": "providers", "datasources.yaml": "datasources"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var have map[string]any
		if err := yaml.Unmarshal(text, &have); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if list, ok := have[key].([]any); !ok || len(list) != 1 || have["apiVersion"] != 1 {
			t.Errorf("%s: %v", name, have)
		}
	}
}

// life lays a little of everything that happens.
func life(t *testing.T, l *loki.Server) {
	t.Helper()
	s := scene.New(t)
	overflow := func(f *schemas.Flow) { f.Reason, f.DstIp, f.DstPort, f.Pid, f.Comm = "overflow", nil, 0, 0, "" }
	for _, w := range []string{"shop/web", "db"} {
		s.Denials(w, 30*time.Minute, 0, 3)
		s.Flow(time.Minute, w, schemas.Verdict_VERDICT_WOULD_DENY, 2, nil)
		s.Flow(time.Minute, w, schemas.Verdict_VERDICT_ALLOW, 2, nil)
		s.Flow(time.Minute, w, schemas.Verdict_VERDICT_ALLOW, 40, overflow)
		s.Policy(20*time.Minute, w, "ann", "is ready")
	}
	s.Policy(10*time.Minute, "*", "bob", "for everyone")
	s.Alive(5*time.Minute, scene.Host, "learning_workload", "db", "learning_seconds", "86400")
	s.Event(4*time.Minute, scene.Host, "policy.applied", nil)
	s.Event(4*time.Minute, scene.Host, "label.invalid", func(e *schemas.HostEvent) { e.Error = `"maybe" is no mode` })
	s.Policy(3*time.Minute, "*", "collector@1", "control entry")
	s.Event(3*time.Minute, scene.Host, "collector.control", nil)
	s.Collector(time.Minute, "collector-1", "dead", "3", "late_denials", "2")
	s.Push(l)
}

// choose puts values into the place of variables, as Grafana does where the
// reader has chosen a host and a workload, or none.
func choose(t *testing.T, expr, host, workload string) string {
	t.Helper()
	text := strings.NewReplacer("$__auto", "5m", "$__range", "6h", "$host", host, "$workload", workload).Replace(expr)
	if strings.Contains(text, "$") {
		t.Errorf("a variable that nobody knows: %s", text)
	}
	return text
}

func TestEveryQueryShowsSomething(t *testing.T) {
	l := loki.Start(t, loki.Options{})
	life(t, l)
	d := read(t)
	for _, all := range []bool{true, false} {
		host, workload := ".+", ".+"
		if !all {
			host, workload = "("+scene.Host+"|other)", "(shop/web|db)"
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				t.Run(fmt.Sprintf("%s %s %v", p.Title, q.RefID, all), func(t *testing.T) {
					shows(t, l, q, choose(t, q.Expr, host, workload), p.Type == "logs")
				})
			}
		}
		for _, a := range d.Annotations.List {
			if a.BuiltIn == 0 {
				t.Run(fmt.Sprintf("%s %v", a.Name, all), func(t *testing.T) { shows(t, l, a.Target, choose(t, a.Target.Expr, host, workload), true) })
			}
		}
	}
	t.Run("no control entry", func(t *testing.T) {
		for _, a := range d.Annotations.List {
			if a.BuiltIn == 0 {
				noControl(t, l, choose(t, a.Target.Expr, ".+", ".+"), true)
			}
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				noControl(t, l, choose(t, q.Expr, ".+", ".+"), p.Type == "logs")
			}
		}
	})
	t.Run("nothing, of a host that is not there", func(t *testing.T) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				if expr := choose(t, q.Expr, "nobody", ".+"); expr != choose(t, q.Expr, ".+", ".+") && found(t, l, q, expr, p.Type == "logs") > 0 {
					t.Errorf("%s does not look at the host", p.Title)
				}
			}
		}
	})
}

func TestEveryVariableHasValues(t *testing.T) {
	l := loki.Start(t, loki.Options{})
	life(t, l)
	for _, v := range read(t).Templating.List {
		if v.Type != "query" {
			continue
		}
		var q struct{ Label, Stream string }
		if err := json.Unmarshal(v.Query, &q); err != nil {
			t.Fatal(err)
		}
		got, err := l.Instant(t.Context(), fmt.Sprintf("count by (%s) (count_over_time(%s[6h]))", q.Label, q.Stream), time.Now())
		if err != nil || len(got) < 2 || got[0].Labels[q.Label] == "" {
			t.Errorf("%s: %v, %v", v.Name, got, err)
		}
	}
}

func shows(t *testing.T, l *loki.Server, q target, expr string, lines bool) {
	t.Helper()
	if found(t, l, q, expr, lines) == 0 {
		t.Errorf("shows nothing: %s", expr)
	}
}

// noControl fails when a query shows what a collector only tried.
func noControl(t *testing.T, l *loki.Server, expr string, lines bool) {
	t.Helper()
	now := time.Now()
	text := ""
	if lines {
		got, err := l.Lines(t.Context(), expr, now.Add(-6*time.Hour), now)
		if err != nil {
			t.Fatal(err)
		}
		text = fmt.Sprint(got)
	} else {
		got, err := l.Instant(t.Context(), expr, now)
		if err != nil {
			t.Fatal(err)
		}
		text = fmt.Sprint(got)
	}
	if strings.Contains(text, "collector@1") || strings.Contains(text, "collector.control") {
		t.Errorf("%s shows a control entry: %s", expr, text)
	}
}

// found is how much a query gives.
func found(t *testing.T, l *loki.Server, q target, expr string, lines bool) int {
	t.Helper()
	now := time.Now()
	var samples []loki.Sample
	var err error
	switch {
	case lines:
		entries, err := l.Lines(t.Context(), expr, now.Add(-6*time.Hour), now)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.Contains(e.Line, "no value") || strings.HasPrefix(e.Line, "{") {
				t.Errorf("line %q", e.Line)
			}
		}
		return len(entries)
	case q.QueryType == "instant":
		samples, err = l.Instant(t.Context(), expr, now)
	default:
		samples, err = l.Range(t.Context(), expr, now.Add(-6*time.Hour), now, 5*time.Minute)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range samples {
		if math.IsNaN(s.Value) {
			t.Errorf("%s: not a number", expr)
		}
	}
	return len(samples)
}
