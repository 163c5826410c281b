package bpf

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/policy"
)

var frameCases = []socketCase{
	{unix.AF_PACKET, unix.SOCK_RAW, 0, true, "packet raw socket", nil},
	{unix.AF_PACKET, unix.SOCK_DGRAM, 0, true, "packet dgram socket", nil},
	{unix.AF_INET, unix.SOCK_PACKET, 0, true, "packet packet socket", nil},
	{unix.AF_XDP, unix.SOCK_RAW, 0, true, "xdp raw socket", nil},
	{unix.AF_VSOCK, unix.SOCK_STREAM, 0, true, "vsock stream socket", nil},
	{unix.AF_UNIX, unix.SOCK_STREAM, 0, false, "", nil},
	{unix.AF_NETLINK, unix.SOCK_RAW, 0, false, "", nil},
	{unix.AF_INET, unix.SOCK_STREAM, 0, false, "", nil},
	{unix.AF_INET6, unix.SOCK_DGRAM, 0, false, "", nil},
}

// TestPacketSocketsAreRefusedOrToldAsOpen has no third way: the gate that cannot
// refuse them says so.
func TestPacketSocketsAreRefusedOrToldAsOpen(t *testing.T) {
	f := newFixture(t, nil)
	lacks := f.LacksSocketCreate()
	t.Logf("the kernel lacks it: %v", lacks)
	pins, err := Pins(f.o.PinDir)
	if err != nil || RefusesPacketSockets(pins) != (lacks == nil) {
		t.Errorf("pins %+v (%v)", pins, err)
	}
	f.manage(t, 1, State{Mode: policy.ModeLearn})
	var known []socketCase
	for _, c := range frameCases {
		if c.outside = c.open(); !unknownHere(c.outside) {
			known = append(known, c)
		}
	}
	learnt := f.drain(t)
	f.putState(t, 1, State{Mode: policy.ModeBlock})
	refused := 0
	for _, c := range known {
		err := c.open()
		closed := lacks == nil && c.refused
		if closed != errors.Is(err, unix.EPERM) || !closed && !errors.Is(err, c.outside) {
			t.Errorf("%s: %v, refused should be %v", c, err, closed)
		}
		if closed {
			refused++
		}
	}
	blocked := f.drain(t)
	if len(learnt) < refused || len(blocked) != refused {
		t.Errorf("%d events of learning, %d of blocking, want %d", len(learnt), len(blocked), refused)
	}
	for _, e := range blocked {
		if e.Hook != HookSockCreate || e.Dst.IsValid() || e.Rule != policy.RuleSocket || e.Proto != policy.ProtoOther || e.PID == 0 {
			t.Errorf("event %+v", e)
		}
	}
	f.putState(t, 1, State{Mode: policy.ModeBlock, Raw: true})
	for _, c := range known {
		if err := c.open(); !errors.Is(err, c.outside) {
			t.Errorf("kept by its label: %s: %v", c, err)
		}
	}
}
