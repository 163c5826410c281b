package bpf

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// socketCreate is the program that a gate can be without.
const socketCreate = "socket_create"

// probeSocketCreate tells why this kernel does not load a program on the making of
// sockets of any family; nil if it does.
func probeSocketCreate() error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "egw_probe", Type: ebpf.Tracing, AttachType: ebpf.AttachModifyReturn, AttachTo: "security_socket_create",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}, License: "Dual BSD/GPL",
	})
	if errors.Is(err, unix.EPERM) {
		return errors.New("this kernel permits no program on security_socket_create") // the library's advice would be beside the point
	}
	if err != nil {
		return fmt.Errorf("load a program on security_socket_create: %w", err)
	}
	return p.Close()
}

// lacksTCX tells whether a program for a network device needs a filter of tc, as
// before 6.6.
func lacksTCX() bool {
	// There is no such device; a kernel that does not know such links says EINVAL.
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "egw_probe", Type: ebpf.SchedCLS,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}, License: "Dual BSD/GPL",
	})
	if err != nil {
		return true
	}
	defer p.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: math.MaxInt32, Program: p, Attach: ebpf.AttachTCXIngress})
	if err == nil {
		_ = l.Close()
	}
	return errors.Is(err, ebpf.ErrNotSupported)
}

// noSocketCreate stands in its place where the kernel does not load it.
func noSocketCreate() *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name: socketCreate, Type: ebpf.SocketFilter,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}, License: "Dual BSD/GPL",
	}
}

// LacksSocketCreate tells why packet sockets are not refused when they are made, which
// the kernel may have no program for; nil if they are.
func (g *Gate) LacksSocketCreate() error { return g.lacksSocketCreate }

// RefusesPacketSockets reports whether one of the pinned gates does.
func RefusesPacketSockets(pins []Pinned) bool {
	return slices.ContainsFunc(pins, func(p Pinned) bool { return slices.Contains(p.Links, socketCreate) })
}
