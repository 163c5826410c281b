// Package policy holds the rules and what follows from them: reading the
// allow-list text, compiling rules to prefix tables, folding the policy log,
// and judging a flow. It is pure: no I/O, no clock of its own.
package policy

import "fmt"

// Mode says what is done with a workload's traffic.
type Mode uint8

// The modes. Unknown is no mode: whoever meets it blocks.
const (
	ModeUnknown Mode = iota
	// ModeAllow leaves the workload alone: nothing is judged or recorded.
	ModeAllow
	// ModeLearn judges and records every decision and blocks nothing.
	ModeLearn
	// ModeBlock enforces the allow-list.
	ModeBlock
)

var modeNames = [...]string{"unknown", "allow", "learn", "block"}

// String is the word of the label `egress`.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

// ParseMode reads allow, learn or block. Any other word is an error, and its
// mode is ModeBlock: what is not understood is never open.
func ParseMode(s string) (Mode, error) {
	for m := ModeAllow; m <= ModeBlock; m++ {
		if s == m.String() {
			return m, nil
		}
	}
	return ModeBlock, fmt.Errorf("mode %q: want allow, learn or block", s)
}

// MarshalText writes the word.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads the word, as strictly as ParseMode; the empty text and
// the word unknown are ModeUnknown.
func (m *Mode) UnmarshalText(text []byte) (err error) {
	if s := string(text); s == "" || s == modeNames[ModeUnknown] {
		*m = ModeUnknown
		return nil
	}
	*m, err = ParseMode(string(text))
	return err
}

// Verdict is the outcome of a decision.
type Verdict uint8

// The verdicts. VerdictNone is traffic that is not judged at all.
const (
	VerdictNone Verdict = iota
	VerdictAllow
	VerdictDeny
	// VerdictWouldDeny is learn mode's denial: block would have stopped it.
	VerdictWouldDeny
)

var verdictNames = [...]string{"none", "allow", "deny", "would_deny"}

// String is the word used in events.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("verdict(%d)", uint8(v))
}

// ParseVerdict reads the word that String writes.
func ParseVerdict(s string) (Verdict, error) {
	for v := VerdictAllow; v <= VerdictWouldDeny; v++ {
		if s == v.String() {
			return v, nil
		}
	}
	return VerdictNone, fmt.Errorf("verdict %q: want allow, deny or would_deny", s)
}

// Proto is an IP protocol as rules distinguish them.
type Proto uint8

// The protocols, by their IANA numbers. ICMP stands for ICMPv6 too; ProtoOther
// is every protocol without a name here.
const (
	ProtoICMP  Proto = 1
	ProtoTCP   Proto = 6
	ProtoUDP   Proto = 17
	ProtoOther Proto = 255
)

// String is the word used in rules and events.
func (p Proto) String() string {
	switch p {
	case ProtoICMP:
		return "icmp"
	case ProtoTCP:
		return "tcp"
	case ProtoUDP:
		return "udp"
	}
	return "other"
}

// ParseProto reads the word that String writes.
func ParseProto(s string) (Proto, error) {
	for _, p := range []Proto{ProtoICMP, ProtoTCP, ProtoUDP, ProtoOther} {
		if s == p.String() {
			return p, nil
		}
	}
	return ProtoOther, fmt.Errorf("protocol %q: want tcp, udp, icmp or other", s)
}

// Action is what a rule does with what it matches.
type Action uint8

// The actions. ActionNone is no rule's: nothing matched.
const (
	ActionNone Action = iota
	ActionAllow
	ActionDeny
)

// String is the word used in rules.
func (a Action) String() string {
	switch a {
	case ActionAllow:
		return "allow"
	case ActionDeny:
		return "deny"
	}
	return "none"
}

// Everyone is the name of the policy that applies to every workload besides
// its own.
const Everyone = "*"
