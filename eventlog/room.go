package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/egresswarden/egresswarden/schemas"
)

const (
	detailSequences = "sequences"
	roomShare       = 64 // a 64th of the stream is freed at a time
	roomMessages    = 4096
	messageOverhead = 256
)

// room remembers how far the stream has been searched for messages that hold
// nothing but allowed flows: before that there are none left.
type room struct{ searched uint64 }

// victims are the messages that make room.
type victims struct {
	sequences []uint64
	bytes     int64
	flows     uint64
	tally     tally
}

func (v *victims) add(e entry) {
	header := func(key string) uint64 {
		n, _ := strconv.ParseUint(e.Headers().Get(key), 10, 64) // absent: somebody else's message
		return n
	}
	v.sequences = append(v.sequences, e.sequence)
	v.bytes += int64(header(nats.MsgSize)) + messageOverhead
	v.flows += header(headerFlows)
	v.tally.join(tally{allow: header(headerAllow), deny: header(headerDeny), wouldDeny: header(headerWouldDeny)})
}

// makeRoom throws away old flows of this host: first messages that hold nothing
// but allowed flows, the oldest first, then the oldest of any kind. The loss is
// a host event, written before, so that no crash hides it; a crash between the
// two is made good by finishRoom, so that the event is true. The last message
// stays, for it says where to go on.
func (s *sender) makeRoom(ctx context.Context, need int, cause error) error {
	v, err := s.choose(ctx, int64(need)+messageOverhead)
	if err != nil {
		return fmt.Errorf("make room: %w", errors.Join(err, cause))
	}
	if len(v.sequences) == 0 {
		return fmt.Errorf("make room: nothing of this host to throw away: %w", cause)
	}
	request, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := s.w.l.PublishHost(request, lossEvent(s.w.host, v)); err != nil {
		return fmt.Errorf("make room: %w", err)
	}
	s.log.Error("outbox full, old flows are thrown away", "flows", v.flows, "count", v.tally.total())
	return s.remove(ctx, v.sequences)
}

func lossEvent(host string, v victims) *schemas.HostEvent {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return &schemas.HostEvent{
		TimeNs: time.Now().UnixNano(), Host: host, Kind: schemas.KindOutboxFull, Severity: "error",
		Message: "the event log is full: recorded flows were thrown away", Count: v.tally.total(),
		Detail: map[string]string{
			"flows": number(v.flows), "allow": number(v.tally.allow), "deny": number(v.tally.deny),
			"would_deny": number(v.tally.wouldDeny), detailSequences: formatSequences(v.sequences),
		},
	}
}

// choose finds messages worth the bytes needed, and somewhat more.
func (s *sender) choose(ctx context.Context, need int64) (victims, error) {
	stream, err := s.w.l.js.Stream(ctx, schemas.StreamFlows)
	if err != nil {
		return victims{}, err
	}
	need = max(need, stream.CachedInfo().Config.MaxBytes/roomShare)
	var v victims
	all := span{stream: schemas.StreamFlows, subject: s.w.subject, until: s.expected, headersOnly: true}
	allowed := all
	allowed.from = s.room.searched + 1
	if allowed.from < allowed.until {
		err = s.w.l.each(ctx, allowed, func(e entry) bool {
			s.room.searched = e.sequence
			if onlyAllowed(e) {
				v.add(e)
			}
			return v.bytes < need && len(v.sequences) < roomMessages
		})
	}
	if err != nil || len(v.sequences) > 0 || s.expected == 0 {
		return v, err
	}
	err = s.w.l.each(ctx, all, func(e entry) bool {
		v.add(e)
		return v.bytes < need && len(v.sequences) < roomMessages
	})
	return v, err
}

func onlyAllowed(e entry) bool {
	h := e.Headers()
	return h.Get(headerBoot) != "" && h.Get(headerDeny) == "0" && h.Get(headerWouldDeny) == "0"
}

// remove deletes messages; those that are gone already are no error.
func (s *sender) remove(ctx context.Context, sequences []uint64) error {
	stream, err := s.w.l.js.Stream(ctx, schemas.StreamFlows)
	if err != nil {
		return fmt.Errorf("remove flows: %w", err)
	}
	for _, sequence := range sequences {
		request, cancel := context.WithTimeout(ctx, requestWait)
		err := stream.DeleteMsg(request, sequence)
		cancel()
		if err != nil && !isGone(err) {
			return fmt.Errorf("remove flows: sequence %d: %w", sequence, err)
		}
	}
	return nil
}

// finishRoom removes what the last loss event of this host names, in case the
// process died in between.
func (s *sender) finishRoom(ctx context.Context) error {
	stream, err := s.w.l.js.Stream(ctx, schemas.StreamFlows)
	if err != nil {
		return err
	}
	made := stream.CachedInfo().Created.UnixNano()
	query := HostQuery{Host: s.w.host, Last: 1, Match: func(e *schemas.HostEvent) bool {
		return e.GetKind() == schemas.KindOutboxFull && e.GetTimeNs() > made
	}}
	for e, err := range s.w.l.HostEvents(ctx, query) {
		if errors.Is(err, ErrMessage) {
			continue
		}
		if err != nil {
			return err
		}
		sequences, err := parseSequences(e.GetDetail()[detailSequences])
		if err != nil {
			return err
		}
		return s.remove(ctx, sequences)
	}
	return nil
}

// formatSequences writes ascending numbers as 3-17,19.
func formatSequences(sequences []uint64) string {
	var b strings.Builder
	for i := 0; i < len(sequences); {
		j := i
		for j+1 < len(sequences) && sequences[j+1] == sequences[j]+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(sequences[i], 10))
		if j > i {
			b.WriteString("-" + strconv.FormatUint(sequences[j], 10))
		}
		i = j + 1
	}
	return b.String()
}

func parseSequences(text string) ([]uint64, error) {
	var sequences []uint64
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 64)
		to, err2 := strconv.ParseUint(last, 10, 64)
		if err := errors.Join(err, err2); err != nil || to < from || to-from >= roomMessages {
			return nil, fmt.Errorf("sequences %q: want ascending numbers and ranges", text)
		}
		for n := from; n <= to; n++ {
			sequences = append(sequences, n)
		}
	}
	return sequences, nil
}

func isGone(err error) bool {
	const codeDeleteFailed jetstream.ErrorCode = 10057
	return errors.Is(err, jetstream.ErrMsgNotFound) || apiCode(err) == codeDeleteFailed
}
