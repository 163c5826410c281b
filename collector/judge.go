package collector

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// An entry is never parked on the word of an answer alone, which a proxy may
// have given: the collector asks for a control entry to be taken as well.

// judge decides about a single entry that was refused. It is parked when
//   - a control entry of the same stream and time is taken, and the entry is
//     refused once more: its content is at fault; or
//   - the control entry is refused too, both in words of Loki's, while another
//     stream's is taken, and the entry is refused once more: the time or the
//     labels are at fault.
//
// Otherwise it is held.
func (s *stream) judge(ctx context.Context, e Entry, a answer) (settled bool, err error) {
	c := s.control(ctx, e)
	if c.refused() {
		_, ours := a.reason()
		_, theirs := c.reason()
		if !ours || !theirs || !s.reaches(ctx) {
			return false, ctx.Err()
		}
	} else if !c.ok() {
		return false, ctx.Err()
	}
	again := s.poster.post(ctx, s.text, []Entry{e})
	switch {
	case again.ok():
		return true, nil
	case again.refused():
		return true, s.park(ctx, e, again)
	}
	return false, ctx.Err()
}

// tooOld parks entries that all lie before the oldest time that Loki says it
// takes, if it says so again after a control entry was taken.
func (s *stream) tooOld(ctx context.Context, entries []Entry, a answer) (settled bool, err error) {
	if _, ours := a.reason(); !ours || !s.reaches(ctx) {
		return false, ctx.Err()
	}
	again := s.poster.post(ctx, s.text, entries)
	if _, ours := again.reason(); !again.refused() || !ours || older(entries, again.oldest()) < len(entries) {
		return again.ok(), ctx.Err()
	}
	for _, e := range entries {
		if err := s.park(ctx, e, again); err != nil {
			return false, err
		}
	}
	return true, nil
}

// control sends an entry that stands for no decision, of the same stream and
// time as another one. Repeated it is an exact duplicate.
func (s *stream) control(ctx context.Context, e Entry) answer {
	return s.poster.post(ctx, s.text, []Entry{s.controlEntry(e)})
}

func (s *stream) controlEntry(e Entry) Entry {
	id := e.EventID + "/control"
	const why = "control entry of the collector: an event beside it was refused"
	c := Entry{TimeNs: e.TimeNs, EventID: id}
	switch s.labels.Service {
	case ServiceFlows:
		c.Line = string(schemas.AppendLine(nil, &schemas.Flow{
			Id: id, TimeNs: e.TimeNs, Host: s.labels.Host, Workload: s.labels.Workload, Verdict: verdict(s.labels.Verdict),
			Proto: uint32(policy.ProtoOther), Reason: schemas.ReasonControl,
		}))
	case ServicePolicy:
		c.Line = jsonLine(&schemas.PolicyEvent{TimeNs: e.TimeNs, Policy: s.labels.Workload, Actor: s.name, Reason: why})
	default:
		c.Line = jsonLine(&schemas.HostEvent{
			TimeNs: e.TimeNs, Host: s.labels.Host, Kind: kindControl, Severity: "info", Message: why,
		})
	}
	return c
}

// jsonLine encodes an event of which every text has been read from another one,
// so that it can be encoded.
func jsonLine(m proto.Message) string {
	text, err := schemas.MarshalJSON(m)
	if err != nil {
		return "{}"
	}
	return string(text)
}

const kindControl = "collector.control"

// verdict is none where the word is.
func verdict(word string) schemas.Verdict {
	v, _ := policy.ParseVerdict(word)
	return schemas.Verdict(v)
}

// reaches tells whether Loki takes an entry of the collector's own stream now.
func (s *stream) reaches(ctx context.Context) bool {
	now := time.Now().UnixNano()
	l := Labels{Service: ServiceHosts, Host: s.name}
	line := jsonLine(&schemas.HostEvent{
		TimeNs: now, Host: s.name, Kind: kindControl, Severity: "info",
		Message: "control entry of the collector: Loki refuses events of another stream",
		Detail:  map[string]string{"stream": s.text},
	})
	e := Entry{TimeNs: now, Line: line, EventID: fmt.Sprintf("%s/control/%d", s.name, now)}
	return s.poster.post(ctx, l.String(), []Entry{e}).ok()
}
