package loki

import (
	"os"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/egresswarden/egresswarden/internal/testutil/loki"
	"github.com/egresswarden/egresswarden/schemas"
)

const rulesFile = "egresswarden.yaml"

// rule and file are the rules as far as the tests look at them.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

type group struct {
	Name     string `yaml:"name"`
	Interval string `yaml:"interval,omitempty"`
	Rules    []rule `yaml:"rules"`
}

type file struct {
	Groups []group `yaml:"groups"`
}

func readRules(t *testing.T) file {
	t.Helper()
	var f file
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		t.Fatal(err)
	}
	return f
}

// scene is what lies in Loki, as collectors would have put it there.
type scene struct {
	t       *testing.T
	now     time.Time
	entries []loki.Entry
	events  uint64 // ever added
}

// flow adds one event that stands for count decisions, some time ago.
func (s *scene) flow(ago time.Duration, workload string, v schemas.Verdict, count uint64, change func(*schemas.Flow)) {
	f := &schemas.Flow{
		TimeNs: s.now.Add(-ago).UnixNano(), Host: "h1", Workload: workload, Container: workload, Verdict: v, Count: count,
		Proto: 6, DstIp: []byte{192, 0, 2, 1}, DstPort: 443, ContainerId: "c0ffee", Mode: schemas.Mode_MODE_BLOCK,
		Id: schemas.FlowID("h1", "boot", s.next()),
	}
	if change != nil {
		change(f)
	}
	s.entries = append(s.entries, loki.Entry{
		Time: time.Unix(0, f.GetTimeNs()), Line: string(schemas.AppendLine(nil, f)),
		Labels: map[string]string{
			"service_name": "egresswarden", "host": f.GetHost(), "workload": f.GetWorkload(), "verdict": f.GetVerdict().Word(),
		},
		Metadata: map[string]string{"container_id": f.GetContainerId(), "event_id": f.GetId()},
	})
}

// denials add count a minute, from some time ago until another.
func (s *scene) denials(workload string, from, to time.Duration, count uint64) {
	for ago := from; ago > to; ago -= time.Minute {
		s.flow(ago, workload, schemas.Verdict_VERDICT_DENY, count, nil)
	}
}

// event adds a host event some time ago.
func (s *scene) event(ago time.Duration, host, kind string, change func(*schemas.HostEvent)) {
	e := &schemas.HostEvent{TimeNs: s.now.Add(-ago).UnixNano(), Host: host, Kind: kind, Severity: "info", Message: "a message"}
	if change != nil {
		change(e)
	}
	line, err := schemas.MarshalJSON(e)
	if err != nil {
		s.t.Fatal(err)
	}
	s.entries = append(s.entries, loki.Entry{
		Time: time.Unix(0, e.GetTimeNs()), Line: string(line), Labels: map[string]string{"service_name": "egresswarden-host", "host": host},
		Metadata: map[string]string{"event_id": schemas.FlowID("EGW_HOSTS", host, s.next())},
	})
}

// alive adds a heartbeat of an enforcer: of one that stands well, but for the
// details given by key and value.
func (s *scene) alive(ago time.Duration, host string, details ...string) {
	detail := map[string]string{"revision": "9", "log_revision": "9", "problems": "0", "containers": "3", "workloads_block": "3"}
	for i := 0; i < len(details); i += 2 {
		detail[details[i]] = details[i+1]
	}
	s.event(ago, host, "enforcer.alive", func(e *schemas.HostEvent) { e.Detail = detail })
}

// collector adds a heartbeat of a collector.
func (s *scene) collector(ago time.Duration, name string, details ...string) {
	detail := map[string]string{"pending": "0", "lag_seconds": "2", "delivered": "1000", "dead": "0", "late_denials": "0", "retries": "1"}
	for i := 0; i < len(details); i += 2 {
		detail[details[i]] = details[i+1]
	}
	s.event(ago, name, "collector.alive", func(e *schemas.HostEvent) { e.Detail = detail })
}

// push puts all of it into Loki and begins anew.
func (s *scene) push(l *loki.Server) {
	s.t.Helper()
	if err := l.Push(s.t.Context(), s.entries...); err != nil {
		s.t.Fatal(err)
	}
	s.entries = nil
}

// next is a number that no other event has.
func (s *scene) next() uint64 {
	s.events++
	return s.events
}
