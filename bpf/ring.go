package bpf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	recordHeader  = 8
	recordBusy    = 1 << 31
	recordDiscard = 1 << 30

	// pollEvery bounds how long an event waits whose program did not wake us.
	pollEvery = 20 * time.Millisecond
	maxComms  = 1024
)

// Ring reads the gate's events. Reading goes ahead of the kernel: a record's
// room is free only after Commit, so that what was read and not committed is
// read again by the next process. One goroutine reads; Commit may be called by
// another.
type Ring struct {
	size     uint64
	consumer *atomic.Uint64
	producer *atomic.Uint64
	data     []byte
	control  []byte
	shared   []byte
	epoll    int

	mu    sync.Mutex // guards next against Seek while reading
	next  Position
	comms map[[16]byte]string
}

func newRing(m *ebpf.Map) (*Ring, error) {
	page := os.Getpagesize()
	r := &Ring{size: uint64(m.MaxEntries()), epoll: -1, comms: make(map[[16]byte]string)}
	var err error
	if r.control, err = unix.Mmap(m.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map the ring's control page: %w", err)
	}
	// The data is mapped twice in a row, so that no record is cut.
	r.shared, err = unix.Mmap(m.FD(), int64(page), page+2*int(r.size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map the ring's data: %w", err), r.close())
	}
	r.data = r.shared[page:]
	r.consumer = (*atomic.Uint64)(unsafe.Pointer(&r.control[0]))
	r.producer = (*atomic.Uint64)(unsafe.Pointer(&r.shared[0]))
	r.next = r.consumer.Load()
	if err := r.watch(m.FD()); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// watch is edge-triggered: what is read but not committed must not wake us.
func (r *Ring) watch(fd int) (err error) {
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("watch the ring: %w", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)}
	if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("watch the ring: %w", err)
	}
	return nil
}

func (r *Ring) close() error {
	var errs []error
	if r.epoll >= 0 {
		errs = append(errs, unix.Close(r.epoll))
	}
	if r.control != nil {
		errs = append(errs, unix.Munmap(r.control))
	}
	if r.shared != nil {
		errs = append(errs, unix.Munmap(r.shared))
	}
	return errors.Join(errs...)
}

// Read waits for events and returns up to max of them, with the position after
// the last. It returns ctx's error, without events, when ctx ends first.
func (r *Ring) Read(ctx context.Context, max int) ([]Event, Position, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, r.Next(), err
		}
		if events, next := r.TryRead(max); len(events) > 0 {
			return events, next, nil
		}
		if err := r.wait(); err != nil {
			return nil, r.Next(), err
		}
	}
}

// TryRead is Read without waiting: it may return no events.
func (r *Ring) TryRead(max int) ([]Event, Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var (
		events []Event
		wall   = wallOffset()
		end    = r.producer.Load()
	)
	for len(events) < max && r.next < end {
		head := r.header(r.next)
		if head&recordBusy != 0 {
			break // a program still writes it
		}
		if head&recordDiscard == 0 {
			record := (*gateEvent)(unsafe.Pointer(&r.data[r.next&(r.size-1)+recordHeader]))
			events = append(events, record.decode(r.next, wall, r.comm(record.Detail.Comm)))
		}
		r.next += recordLength(head)
	}
	return events, r.next
}

// Next is the position that Read goes on from.
func (r *Ring) Next() Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// Commit gives the kernel back the room of all records before the position.
func (r *Ring) Commit(to Position) error {
	from := r.consumer.Load()
	if to < from || to > r.producer.Load() {
		return fmt.Errorf("commit ring position %d, at %d: %w", to, from, ErrPosition)
	}
	r.consumer.Store(to)
	return nil
}

// Seek makes Read go on from a position, which must be that of a record not
// committed, or the end of the last.
func (r *Ring) Seek(to Position) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, end := r.consumer.Load(), r.producer.Load()
	for at < to && at < end && r.header(at)&recordBusy == 0 {
		at += recordLength(r.header(at))
	}
	if at != to {
		return fmt.Errorf("seek ring position %d, nearest is %d: %w", to, at, ErrPosition)
	}
	r.next = to
	return nil
}

// Committed is where the kernel's records start.
func (r *Ring) Committed() Position { return r.consumer.Load() }

// Pending is how many bytes of the ring are in use, of Size.
func (r *Ring) Pending() uint64 { return r.producer.Load() - r.consumer.Load() }

// Size is the size of the ring in bytes.
func (r *Ring) Size() uint64 { return r.size }

func (r *Ring) header(at Position) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[at&(r.size-1)])))
}

func recordLength(head uint32) uint64 {
	return (uint64(head&^(recordBusy|recordDiscard)) + recordHeader + 7) &^ 7
}

func (r *Ring) wait() error {
	var events [1]unix.EpollEvent
	_, err := unix.EpollWait(r.epoll, events[:], int(pollEvery.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for the ring: %w", err)
	}
	return nil
}

// comm keeps the names seen, as events have few different ones.
func (r *Ring) comm(raw [16]byte) string {
	if s, ok := r.comms[raw]; ok {
		return s
	}
	if len(r.comms) >= maxComms {
		clear(r.comms)
	}
	name, _, _ := bytes.Cut(raw[:], []byte{0})
	r.comms[raw] = string(name)
	return r.comms[raw]
}

// wallOffset is the wall time at which the kernel's monotonic clock was zero.
func wallOffset() int64 {
	var mono unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono); err != nil {
		return 0
	}
	return time.Now().UnixNano() - mono.Nano()
}

// Ring returns the gate's ring; there is one.
func (g *Gate) Ring() *Ring { return g.ring }
