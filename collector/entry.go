package collector

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
)

// Labels are what a stream of entries is known by; nothing else is a label.
type Labels struct{ Service, Host, Workload, Verdict string }

// The services.
const (
	ServiceFlows  = "egresswarden"
	ServiceHosts  = "egresswarden-host"
	ServicePolicy = "egresswarden-policy"
)

// Set gives the labels by name, without empty ones.
func (l Labels) Set() model.LabelSet {
	set := model.LabelSet{"service_name": model.LabelValue(l.Service)}
	for name, value := range map[model.LabelName]string{"host": l.Host, "workload": l.Workload, "verdict": l.Verdict} {
		if value != "" {
			set[name] = model.LabelValue(labelValue(value))
		}
	}
	return set
}

// String is the set as Loki reads it.
func (l Labels) String() string { return l.Set().String() }

// mostLabel keeps a value below Loki's limit of 2,048 bytes, which would refuse
// the whole stream for ever.
const mostLabel = 1024

// labelValue makes any name a value that Loki takes; different names stay
// different.
func labelValue(name string) string {
	valid := strings.ToValidUTF8(name, "\ufffd")
	if len(valid) <= mostLabel {
		return valid
	}
	cut := mostLabel - 17
	for !utf8.RuneStart(valid[cut]) {
		cut--
	}
	sum := sha256.Sum256([]byte(name))
	return valid[:cut] + "~" + hex.EncodeToString(sum[:8])
}

// Entry is one event on its way to a sink.
type Entry struct {
	TimeNs int64
	Line   string
	// EventID and ContainerID go along as structured metadata; both derive from
	// the event alone, so that a repetition is an exact duplicate.
	EventID, ContainerID string

	count uint64 // decisions it stands for
	place place
}

// place is where an event came from.
type place struct {
	stream      string
	sequence    uint64
	index       int
	redelivered bool
}

// entryBytes is what an entry takes in a request and in memory besides its
// texts.
const entryBytes = 96

func (e *Entry) size() int { return len(e.Line) + len(e.EventID) + len(e.ContainerID) + entryBytes }
