package probe

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers of linux/io_uring.h.
const (
	uringOpConnect      = 16
	uringEnterGetEvents = 1
	uringEnterWakeup    = 2
	uringFeatSingleMmap = 1
	uringOffSqes        = 0x10000000
	uringSqeSize        = 64
	uringCqeSize        = 16
)

// UringSQPoll is a flag for Uring: a thread of the kernel submits.
const UringSQPoll = 2

// uringParams is struct io_uring_params.
type uringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFd uint32

	resv   [3]uint32
	sq, cq uringOffsets
}

// uringOffsets is struct io_sqring_offsets or io_cqring_offsets; the last five
// words mean different things in them.
type uringOffsets struct {
	head, tail, mask, entries, w4, w5, w6, resv uint32

	userAddr uint64
}

// uringConnect connects the socket by io_uring.
func uringConnect(fd int, to netip.AddrPort) error {
	addr := RawSockaddr(to)
	var pin runtime.Pinner
	pin.Pin(&addr[0])
	defer pin.Unpin()
	return Uring(0, "io_uring connect", func(sqe []byte) {
		sqe[0] = uringOpConnect
		binary.NativeEndian.PutUint32(sqe[4:], uint32(fd))
		binary.NativeEndian.PutUint64(sqe[8:], uint64(len(addr)))
		binary.NativeEndian.PutUint64(sqe[16:], uint64(uintptr(unsafe.Pointer(&addr[0]))))
	})
}

// Uring sets up a ring with the flags, submits the one entry that fill writes,
// and waits for its end. The error of the operation bears the name of what; any
// failure before the operation itself is errUnavailable: seccomp answers EPERM
// as the gate does.
func Uring(flags uint32, what string, fill func(sqe []byte)) error {
	p := uringParams{flags: flags}
	ring, _, no := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&p)), 0)
	if no != 0 {
		return fmt.Errorf("%w: io_uring_setup: %w", errUnavailable, no)
	}
	defer unix.Close(int(ring))
	if p.features&uringFeatSingleMmap == 0 {
		return fmt.Errorf("%w: io_uring without a single mapping", errUnavailable)
	}
	size := max(p.sq.w6+p.sqEntries*4, p.cq.w5+p.cqEntries*uringCqeSize)
	rings, err := mapRing(int(ring), 0, int(size))
	if err != nil {
		return err
	}
	defer unix.Munmap(rings)
	sqes, err := mapRing(int(ring), uringOffSqes, int(p.sqEntries*uringSqeSize))
	if err != nil {
		return err
	}
	defer unix.Munmap(sqes)
	fill(sqes)
	return uringSubmit(int(ring), &p, rings, what)
}

func mapRing(fd int, off int64, size int) ([]byte, error) {
	b, err := unix.Mmap(fd, off, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("%w: map io_uring: %w", errUnavailable, err)
	}
	return b, nil
}

func uringSubmit(ring int, p *uringParams, rings []byte, what string) error {
	enter := uintptr(uringEnterGetEvents)
	if p.flags&UringSQPoll != 0 {
		enter |= uringEnterWakeup
	}
	// The array of indexes is zero, which is this entry.
	atomic.StoreUint32(word(rings, p.sq.tail), 1)
	for {
		_, _, no := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(ring), 1, 1, enter, 0, 0)
		if atomic.LoadUint32(word(rings, p.cq.tail)) != 0 {
			break
		}
		if no != 0 && no != unix.EINTR {
			return fmt.Errorf("%w: io_uring_enter: %w", errUnavailable, no)
		}
	}
	if res := int32(binary.NativeEndian.Uint32(rings[p.cq.w5+8:])); res < 0 {
		return step(what, unix.Errno(-res))
	}
	return nil
}

func word(b []byte, off uint32) *uint32 {
	return (*uint32)(unsafe.Pointer(&b[off]))
}
