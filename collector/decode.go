package collector

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/schemas"
)

// errUnreadable is a message that holds no events.
var errUnreadable = errors.New("unreadable message")

// wholeBytes is the largest message that is decoded at one go; an enforcer's
// are smaller. A larger one is read twice: checked first, so that it is either
// delivered or parked as a whole, then handed on event by event.
const wholeBytes = 512 << 10

// taker takes an event's entry; its error ends the decoding.
type taker func(Labels, Entry) error

// decoder makes entries of messages; what it needs it uses again.
type decoder struct {
	message eventlog.Message
	flow    schemas.Flow
	index   int
	line    []byte
	labels  []Labels
	entries []Entry
}

// decode gives the entries of a message. ErrUnreadable: it gave none.
func (d *decoder) decode(m eventlog.Message, take taker) error {
	switch m.Stream {
	case schemas.StreamFlows:
		return d.decodeFlows(m, take)
	case schemas.StreamHosts:
		return decodeHost(m, take)
	}
	return decodePolicy(m, take)
}

func (d *decoder) decodeFlows(m eventlog.Message, take taker) error {
	d.message, d.index = m, 0
	if len(m.Data) > wholeBytes {
		if err := schemas.EachFlow(m.Data, &d.flow, func() error { return nil }); err != nil {
			return fmt.Errorf("%w: %w", errUnreadable, err)
		}
		return schemas.EachFlow(m.Data, &d.flow, func() error { return take(d.next()) })
	}
	clear(d.entries) // their texts
	d.labels, d.entries = d.labels[:0], d.entries[:0]
	err := schemas.EachFlow(m.Data, &d.flow, func() error {
		l, e := d.next()
		d.labels, d.entries = append(d.labels, l), append(d.entries, e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if len(d.entries) == 0 {
		return fmt.Errorf("%w: no flow in it", errUnreadable)
	}
	for i := range d.entries {
		if err := take(d.labels[i], d.entries[i]); err != nil {
			return err
		}
	}
	return nil
}

// next is the entry of the flow that was read.
func (d *decoder) next() (Labels, Entry) {
	f := &d.flow
	d.line = schemas.AppendLine(d.line[:0], f)
	e := Entry{
		TimeNs: f.GetTimeNs(), Line: string(d.line), EventID: f.GetId(), ContainerID: f.GetContainerId(),
		count: f.GetCount(), place: placeOf(d.message, d.index),
	}
	d.index++
	return Labels{Service: ServiceFlows, Host: f.GetHost(), Workload: f.GetWorkload(), Verdict: f.GetVerdict().Word()}, e
}

func decodeHost(m eventlog.Message, take taker) error {
	var event schemas.HostEvent
	if err := schemas.UnmarshalJSON(m.Data, &event); err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return take(Labels{Service: ServiceHosts, Host: event.GetHost()}, verbatim(m, event.GetTimeNs()))
}

func decodePolicy(m eventlog.Message, take taker) error {
	var event schemas.PolicyEvent
	if err := schemas.UnmarshalJSON(m.Data, &event); err != nil {
		return fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return take(Labels{Service: ServicePolicy, Workload: event.GetPolicy()}, verbatim(m, event.GetTimeNs()))
}

// verbatim is an entry whose line is the message as it lies in its stream.
func verbatim(m eventlog.Message, timeNs int64) Entry {
	return Entry{
		TimeNs: timeNs, Line: string(m.Data), place: placeOf(m, 0),
		EventID: m.Stream + ":" + strconv.FormatUint(m.Sequence, 10),
	}
}

func placeOf(m eventlog.Message, index int) place {
	return place{stream: m.Stream, sequence: m.Sequence, index: index, redelivered: m.Delivered > 1}
}
