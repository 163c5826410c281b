package bpf

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/egresswarden/egresswarden/policy"
)

// Position is a place in the ring: bytes since its creation. It only grows.
type Position = uint64

// Hook is what asked for the decision.
type Hook uint8

// The hooks.
const (
	HookConnect = Hook(gateHookHOOK_CONNECT)
	HookSendmsg = Hook(gateHookHOOK_SENDMSG)
	// HookSockCreate and HookSetsockopt are of attempts, which have no
	// destination.
	HookSockCreate = Hook(gateHookHOOK_SOCK_CREATE)
	HookSetsockopt = Hook(gateHookHOOK_SETSOCKOPT)
	// HookPacket is of a packet that no other hook judged; nobody knows its process.
	HookPacket = Hook(gateHookHOOK_PACKET)
	// HookFrame is of what left a container by none of its sockets that a hook could
	// ask: nobody knows its process.
	HookFrame = Hook(gateHookHOOK_FRAME)
)

// String is the word used in events.
func (h Hook) String() string {
	switch h {
	case HookConnect:
		return "connect"
	case HookSendmsg:
		return "sendmsg"
	case HookSockCreate:
		return "sock_create"
	case HookSetsockopt:
		return "setsockopt"
	case HookPacket:
		return "packet"
	case HookFrame:
		return "frame"
	}
	return ""
}

// Reason tells why an event is not an ordinary one.
type Reason uint8

// The reasons.
const (
	ReasonNone     = Reason(gateReasonREASON_NONE)
	ReasonOverflow = Reason(gateReasonREASON_OVERFLOW)
	ReasonReply    = Reason(gateReasonREASON_REPLY)
	ReasonResolver = Reason(gateReasonREASON_RESOLVER)
)

// String is the word used in events; empty for none.
func (r Reason) String() string {
	switch r {
	case ReasonOverflow:
		return "overflow"
	case ReasonReply:
		return "reply"
	case ReasonResolver:
		return "resolver"
	}
	return ""
}

// Event is one or more decisions with the same key. Its detail is that of the
// first decision, its time that of the last.
type Event struct {
	// Position is where its record starts: unique together with Gate.Instance.
	Position Position
	Time     time.Time
	Count    uint64
	// Index is the container's; 0 is a container that the gate did not know.
	Index    uint32
	CgroupID uint64
	Verdict  policy.Verdict
	Mode     policy.Mode
	Rule     uint32
	Revision uint64
	// Proto of an attempt is the socket's own number.
	Proto policy.Proto
	// Dst is not valid for an overflow and an attempt, which name no destination, nor
	// for a frame that is no IP packet.
	Dst     netip.Addr
	DstPort uint16
	// Src is not valid where the socket had no address yet.
	Src      netip.Addr
	SrcPort  uint16
	PID, UID uint32
	Comm     string
	Hook     Hook
	Reason   Reason
	// Attempt is what no rule can allow: the socket or option that was asked for, where
	// the hook is one of attempts; or the frame that was sent.
	Attempt string
}

// decode makes an event of a record; wall is the wall time of the kernel's
// monotonic zero.
func (r *gateEvent) decode(at Position, wall int64, comm string) Event {
	d := &r.Detail
	e := Event{
		Position: at,
		Time:     time.Unix(0, wall+int64(r.TimeNs)),
		Count:    r.Count,
		Index:    r.Index,
		CgroupID: d.CgroupId,
		Verdict:  policy.Verdict(d.Verdict),
		Mode:     policy.Mode(r.Posture & 0xff),
		Rule:     d.Rule,
		Revision: d.Revision,
		Proto:    policy.Proto(r.Proto),
		DstPort:  r.Dport,
		SrcPort:  d.Sport,
		PID:      d.Pid,
		UID:      d.Uid,
		Comm:     comm,
		Hook:     Hook(d.Hook),
		Reason:   Reason(d.Reason),
	}
	switch {
	case e.Hook == HookSockCreate:
		e.Attempt = socketWords(r.Dst.W[0], r.Dst.W[1])
	case e.Hook == HookSetsockopt:
		e.Attempt = optionWord(r.Dst.W[0], r.Dst.W[1])
	case e.Hook == HookFrame && r.Dst.W == [4]uint32{}:
		e.Attempt, e.DstPort = fmt.Sprintf("frame of type 0x%04x", e.DstPort), 0
	case e.Reason != ReasonOverflow:
		e.Dst = address(r.Dst.W)
	}
	if e.Hook == HookFrame && e.Rule == policy.RuleSocket && e.Attempt == "" {
		e.Attempt = "frame of a packet socket"
	}
	if d.Src.W != [4]uint32{} {
		e.Src = address(d.Src.W)
	}
	return e
}
