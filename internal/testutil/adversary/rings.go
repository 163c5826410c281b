package adversary

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"unsafe"

	"github.com/egresswarden/egresswarden/internal/testutil/probe"
	"golang.org/x/sys/unix"
)

// Operations of io_uring.
const (
	uringSendmsg = 9
	uringConnect = 16
	uringSend    = 26
	uringSendZC  = 47
	uringCommand = 46

	commandSetsockopt = 3
)

// rings go by io_uring, besides the plain connect of the probe.
func rings() []Technique {
	const needs = "io_uring"
	return many(
		both(Technique{Name: "uring sendmsg", How: "io_uring's sendmsg", Needs: needs}, func(a *attempt, family string) error {
			return a.uring(family, 0, uringSendmsg)
		}),
		both(Technique{Name: "uring send", How: "io_uring's send with an address", Needs: needs}, func(a *attempt, family string) error {
			return a.uring(family, 0, uringSend)
		}),
		both(Technique{Name: "uring send zero copy", How: "io_uring's send_zc with an address", Needs: needs}, func(a *attempt, family string) error {
			return a.uring(family, 0, uringSendZC)
		}),
		both(Technique{Name: "uring polled", How: "io_uring's sendmsg, submitted by a thread of the kernel", Needs: needs}, func(a *attempt, family string) error {
			return a.uring(family, probe.UringSQPoll, uringSendmsg)
		}),
		both(Technique{Name: "uring polled connect", How: "io_uring's connect, submitted by a thread of the kernel", Needs: needs}, func(a *attempt, family string) error {
			return a.uring(family, probe.UringSQPoll, uringConnect)
		}),
		[]Technique{
			{Name: "uring source route", Family: "4", How: "IP_OPTIONS by io_uring's setsockopt", Needs: "io_uring with commands of sockets", Cap: "NET_RAW", Phase: PhaseMany, run: func(a *attempt) error {
				return a.send(message{to: a.Allowed4, text: []byte("-"), prepare: []tweak{
					setByRing(unix.SOL_IP, unix.IP_OPTIONS, sourceRoute(a.Addr4())),
				}})
			}},
			{Name: "uring forged peer", Family: "6", How: "IPV6_FREEBIND by io_uring's setsockopt: plays the destination, and is then answered", Needs: "io_uring with commands of sockets", Phase: PhaseMany, run: func(a *attempt) error {
				return a.forgePeer("6", setByRing(unix.SOL_IPV6, unix.IPV6_FREEBIND, word(1)))
			}},
		})
}

// setByRing sets a socket's option by io_uring.
func setByRing(level, name int, value []byte) tweak {
	return func(fd int) error {
		var pin runtime.Pinner
		defer pin.Unpin()
		pin.Pin(&value[0])
		return step("setsockopt", probe.Uring(0, "setsockopt", func(sqe []byte) {
			sqe[0] = uringCommand
			binary.NativeEndian.PutUint32(sqe[4:], uint32(fd))
			binary.NativeEndian.PutUint32(sqe[8:], commandSetsockopt)
			binary.NativeEndian.PutUint32(sqe[16:], uint32(level))
			binary.NativeEndian.PutUint32(sqe[20:], uint32(name))
			binary.NativeEndian.PutUint32(sqe[44:], uint32(len(value)))
			binary.NativeEndian.PutUint64(sqe[48:], uint64(ptr(value)))
		}))
	}
}

func (a *attempt) uring(family string, flags uint32, op byte) error {
	kind, what := unix.SOCK_DGRAM, "io_uring send"
	if op == uringConnect {
		kind, what = unix.SOCK_STREAM, "io_uring connect"
	}
	to := a.to(family)
	return socket(domain(to.Addr()), kind, 0, func(fd int) error {
		var pin runtime.Pinner
		defer pin.Unpin()
		return step(what, probe.Uring(flags, what, entry(&pin, fd, op, to, a.text)))
	})
}

// entry writes the operation's, whose memory is pinned.
func entry(pin *runtime.Pinner, fd int, op byte, to netip.AddrPort, text []byte) func([]byte) {
	name := rawAddr(to)
	iov := &unix.Iovec{Base: &text[0]}
	iov.SetLen(len(text))
	msg := &unix.Msghdr{Name: &name[0], Namelen: uint32(len(name)), Iov: iov}
	msg.SetIovlen(1)
	pin.Pin(&name[0])
	pin.Pin(&text[0])
	pin.Pin(iov)
	pin.Pin(msg)
	return func(sqe []byte) {
		sqe[0] = op
		binary.NativeEndian.PutUint32(sqe[4:], uint32(fd))
		switch op {
		case uringSendmsg:
			binary.NativeEndian.PutUint64(sqe[16:], uint64(uintptr(unsafe.Pointer(msg))))
			binary.NativeEndian.PutUint32(sqe[24:], 1)
		case uringConnect:
			binary.NativeEndian.PutUint64(sqe[8:], uint64(len(name)))
			binary.NativeEndian.PutUint64(sqe[16:], uint64(uintptr(unsafe.Pointer(&name[0]))))
		default:
			binary.NativeEndian.PutUint64(sqe[8:], uint64(uintptr(unsafe.Pointer(&name[0]))))
			binary.NativeEndian.PutUint64(sqe[16:], uint64(uintptr(unsafe.Pointer(&text[0]))))
			binary.NativeEndian.PutUint32(sqe[24:], uint32(len(text)))
			binary.NativeEndian.PutUint16(sqe[44:], uint16(len(name)))
		}
	}
}
