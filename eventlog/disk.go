package eventlog

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// roomPart and roomMin are what must be free for a start to be of use: a
	// share of the file system, or as many bytes if that is less.
	roomPart = 32
	roomMin  = 64 << 20
	// roomWait bounds the wait for it: streams make room by themselves when they
	// are started, of what is too old.
	roomWait = time.Minute
)

// full tells whether the file system of the streams has no room worth a start.
// Unknown is no.
func (s *Server) full() bool {
	var f unix.Statfs_t
	if err := unix.Statfs(s.options.Dir, &f); err != nil {
		return false
	}
	free, size := f.Bavail*uint64(f.Bsize), f.Blocks*uint64(f.Bsize)
	return free < min(roomMin, size/roomPart)
}

// cure adds to an error what to do about it.
func (s *Server) cure(err error) error {
	if !s.full() {
		return err
	}
	return fmt.Errorf("the disk is full: make room on the file system of %s, or lower nats.max_flow_bytes; "+
		"nothing is lost meanwhile, events wait where they are made (%w)", s.options.Dir, err)
}

// awaitRoom returns when there is room, after a while, or at the end.
func (s *Server) awaitRoom() {
	end := time.After(roomWait)
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for s.full() {
		select {
		case <-s.stop:
			return
		case <-end:
			return
		case <-tick.C:
		}
	}
}
