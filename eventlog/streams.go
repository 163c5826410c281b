package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/egresswarden/egresswarden/schemas"
)

const (
	dedupeWindow    = 2 * time.Minute
	hostHistory     = 10_000
	hostStreamBytes = 256 << 20
	deadStreamBytes = 256 << 20
)

// streamConfigs are the streams as they are made. EGW_FLOWS refuses what does
// not fit, so that what is thrown away for it is chosen and told by the writer;
// EGW_POLICY is the audit trail and lets nobody delete.
func streamConfigs(o Options) []jetstream.StreamConfig {
	configs := []jetstream.StreamConfig{
		{
			Name: schemas.StreamFlows, Subjects: []string{schemas.SubjectFlows + ".*"},
			Description: "judged connects and sends, packed protobuf FlowBatch",
			Discard:     jetstream.DiscardNew,
			MaxBytes:    orDefault(o.MaxFlowBytes, DefaultFlowBytes),
			MaxAge:      orDefault(o.MaxFlowAge, DefaultFlowAge),
		},
		{
			Name: schemas.StreamPolicy, Subjects: []string{schemas.SubjectPolicy + ".*"},
			Description: "the policy log, JSON PolicyEvent; the sequence is the revision",
			DenyDelete:  true, DenyPurge: true,
		},
		{
			Name: schemas.StreamHosts, Subjects: []string{schemas.SubjectHosts + ".*"},
			Description:       "what happened to the hosts' enforcement, JSON HostEvent",
			MaxMsgsPerSubject: hostHistory, MaxBytes: hostStreamBytes,
		},
		{
			Name: schemas.StreamDead, Subjects: []string{schemas.SubjectDead + ".*"},
			Description: "what a consumer could not deliver, with the reason",
			MaxAge:      DefaultFlowAge, MaxBytes: deadStreamBytes,
		},
	}
	for i := range configs {
		configs[i].Storage = jetstream.FileStorage
		configs[i].Retention = jetstream.LimitsPolicy
		configs[i].Replicas = max(o.Replicas, 1)
		configs[i].Duplicates = dedupeWindow
	}
	return configs
}

func orDefault[T int64 | time.Duration](value, fallback T) T {
	if value == 0 {
		return fallback
	}
	return value
}

// MakeStreams makes what is missing of the streams that the options name, unless
// the log is ReadOnly. Of a stream that is there only what correctness needs is
// put right, and the bounds that were asked for: an operator's own limits and
// replicas stay.
func (l *Log) MakeStreams(ctx context.Context) error {
	if l.options.ReadOnly {
		return nil
	}
	for _, want := range streamConfigs(l.options) {
		if only := l.options.Streams; len(only) > 0 && !slices.Contains(only, want.Name) {
			continue
		}
		if err := l.makeStream(ctx, l.options, want); err != nil {
			return fmt.Errorf("make stream %s: %w", want.Name, err)
		}
	}
	return nil
}

func (l *Log) makeStream(ctx context.Context, o Options, want jetstream.StreamConfig) error {
	stream, err := l.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = l.js.CreateStream(ctx, want)
		if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return err
		}
		stream, err = l.js.Stream(ctx, want.Name) // made by another host at the same time
	}
	if err != nil {
		return err
	}
	have := stream.CachedInfo().Config
	changed := have.Discard != want.Discard
	have.Discard = want.Discard
	if want.Name == schemas.StreamFlows {
		changed = take(&have.MaxBytes, o.MaxFlowBytes) || changed
		changed = take(&have.MaxAge, o.MaxFlowAge) || changed
	}
	if !changed {
		return nil
	}
	_, err = l.js.UpdateStream(ctx, have)
	return err
}

// take sets a bound that was asked for and tells whether it was another.
func take[T int64 | time.Duration](have *T, want T) bool {
	if want == 0 || *have == want {
		return false
	}
	*have = want
	return true
}
