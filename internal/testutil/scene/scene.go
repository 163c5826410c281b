// Package scene makes what lies in Loki when collectors have delivered: real
// lines of flows, host events and policy events under their labels, at any time.
package scene

import (
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/egresswarden/egresswarden/internal/testutil/loki"
	"github.com/egresswarden/egresswarden/schemas"
)

// Host is where flows come from.
const Host = "h1"

// Scene gathers entries. Times are given as how long before Now; those of one
// label set go from the oldest to the newest, as Loki wants them.
type Scene struct {
	Now     time.Time
	Entries []loki.Entry

	t      testing.TB
	events uint64 // ever added
}

// New is an empty one, now.
func New(t testing.TB) *Scene { return &Scene{t: t, Now: time.Now()} }

// next is a number that no other event of the scene has.
func (s *Scene) next() uint64 {
	s.events++
	return s.events
}

// Flow adds an event of a workload that stands for count decisions; change, if
// given, has the last word.
func (s *Scene) Flow(ago time.Duration, workload string, v schemas.Verdict, count uint64, change func(*schemas.Flow)) {
	f := &schemas.Flow{
		TimeNs: s.Now.Add(-ago).UnixNano(), Host: Host, Workload: workload, Container: workload, Verdict: v, Count: count,
		Proto: 6, DstIp: []byte{192, 0, 2, 1}, DstPort: 443, ContainerId: "c0ffee", Mode: schemas.Mode_MODE_BLOCK, Comm: "curl", Pid: 7,
		Id: schemas.FlowID(Host, "boot", s.next()),
	}
	if change != nil {
		change(f)
	}
	s.Entries = append(s.Entries, loki.Entry{
		Time: time.Unix(0, f.GetTimeNs()), Line: string(schemas.AppendLine(nil, f)),
		Labels: map[string]string{
			"service_name": "egresswarden", "host": f.GetHost(), "workload": f.GetWorkload(), "verdict": f.GetVerdict().Word(),
		},
		Metadata: map[string]string{"container_id": f.GetContainerId(), "event_id": f.GetId()},
	})
}

// Denials add count a minute, from some time ago until another.
func (s *Scene) Denials(workload string, from, to time.Duration, count uint64) {
	for ago := from; ago > to; ago -= time.Minute {
		s.Flow(ago, workload, schemas.Verdict_VERDICT_DENY, count, nil)
	}
}

// Event adds a host event; change, if given, has the last word.
func (s *Scene) Event(ago time.Duration, host, kind string, change func(*schemas.HostEvent)) {
	e := &schemas.HostEvent{TimeNs: s.Now.Add(-ago).UnixNano(), Host: host, Kind: kind, Severity: "info", Message: "a message"}
	if change != nil {
		change(e)
	}
	s.payload(e.GetTimeNs(), e, schemas.StreamHosts, map[string]string{"service_name": "egresswarden-host", "host": host})
}

// Alive adds a heartbeat of an enforcer: of one that stands well, but for the
// details given by key and value.
func (s *Scene) Alive(ago time.Duration, host string, details ...string) {
	s.heartbeat(ago, host, schemas.KindEnforcerAlive, map[string]string{
		"revision": "9", "log_revision": "9", "problems": "0", "containers": "3", "workloads_learn": "1", "workloads_block": "2",
	}, details)
}

// Collector adds a heartbeat of a collector: of one that keeps up, but for the
// details given by key and value.
func (s *Scene) Collector(ago time.Duration, name string, details ...string) {
	s.heartbeat(ago, name, schemas.KindCollectorAlive, map[string]string{
		"pending": "0", "lag_seconds": "2", "delivered": "1000", "dead": "0", "late_denials": "0", "retries": "1",
	}, details)
}

func (s *Scene) heartbeat(ago time.Duration, host, kind string, detail map[string]string, details []string) {
	for i := 0; i < len(details); i += 2 {
		detail[details[i]] = details[i+1]
	}
	s.Event(ago, host, kind, func(e *schemas.HostEvent) { e.Detail = detail })
}

// Policy adds an event of the policy log.
func (s *Scene) Policy(ago time.Duration, name, actor, reason string) {
	e := &schemas.PolicyEvent{
		TimeNs: s.Now.Add(-ago).UnixNano(), Actor: actor, Reason: reason, Policy: name,
		Change: &schemas.PolicyEvent_ModeSet{ModeSet: &schemas.ModeSet{Workload: name, Mode: schemas.Mode_MODE_BLOCK}},
	}
	s.payload(e.GetTimeNs(), e, schemas.StreamPolicy, map[string]string{"service_name": "egresswarden-policy", "workload": name})
}

// payload adds an event whose line is what lies in its stream.
func (s *Scene) payload(ns int64, m proto.Message, stream string, labels map[string]string) {
	line, err := schemas.MarshalJSON(m)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Entries = append(s.Entries, loki.Entry{
		Time: time.Unix(0, ns), Line: string(line), Labels: labels,
		Metadata: map[string]string{"event_id": stream + ":" + strconv.FormatUint(s.next(), 10)},
	})
}

// Push puts all of it into Loki and begins anew.
func (s *Scene) Push(l *loki.Server) {
	s.t.Helper()
	if err := l.Push(s.t.Context(), s.Entries...); err != nil {
		s.t.Fatal(err)
	}
	s.Entries = nil
}
