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
		}))
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
