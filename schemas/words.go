package schemas

import "strconv"

// Word is the verdict as the line has it; empty for none.
func (v Verdict) Word() string {
	switch v {
	case Verdict_VERDICT_ALLOW:
		return "allow"
	case Verdict_VERDICT_DENY:
		return "deny"
	case Verdict_VERDICT_WOULD_DENY:
		return "would_deny"
	}
	return ""
}

// Word is the mode as the line has it; empty for none.
func (m Mode) Word() string {
	switch m {
	case Mode_MODE_ALLOW:
		return "allow"
	case Mode_MODE_LEARN:
		return "learn"
	case Mode_MODE_BLOCK:
		return "block"
	}
	return ""
}

// protoOther stands for every protocol without a word of its own.
const protoOther = 255

// ProtoWord is a protocol number as the line has it: tcp, udp, icmp, other, or
// the number itself.
func ProtoWord(proto uint32) string {
	switch proto {
	case 1:
		return "icmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case protoOther:
		return "other"
	}
	return strconv.FormatUint(uint64(proto), 10)
}

// The values of Flow.reason: why an event is not an ordinary one.
const (
	// ReasonOverflow: decisions that were counted without their destination.
	ReasonOverflow = "overflow"
	// ReasonReply: a UDP answer to a peer that wrote first.
	ReasonReply = "reply"
	// ReasonResolver: a question to Docker's resolver.
	ReasonResolver = "resolver"
	// ReasonControl: no decision at all; the collector tried whether Loki takes
	// an entry where it refused another.
	ReasonControl = "control"
	// ReasonDoctor: the probe of egw doctor, which is no container's.
	ReasonDoctor = "doctor"
)
