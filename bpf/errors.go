package bpf

import "errors"

// What callers can tell apart.
var (
	// ErrLayout: the pinned maps are not what these programs need, and links
	// are at work on them. The old gate goes on; Detach removes it.
	ErrLayout = errors.New("pinned gate has another layout")
	// ErrFull: a map or table has no room; nothing was changed.
	ErrFull = errors.New("no room in the kernel's table")
	// ErrNotFound: there is no such entry.
	ErrNotFound = errors.New("not found")
	// ErrRange: an index or slot is beyond the gate's size, or reserved.
	ErrRange = errors.New("out of range")
	// ErrBusy: another process sets this gate's policies.
	ErrBusy = errors.New("another process has the gate in hand")
	// ErrPosition: the ring holds no record at that position any more.
	ErrPosition = errors.New("no such position in the ring")
	// ErrCgroup: there is no cgroup v2 hierarchy, or not this cgroup.
	ErrCgroup = errors.New("no such cgroup v2")
)
