package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/bpf"
)

// wall puts the wall on the far side of a link of the container's, and shows that it
// stands: a datagram that no hook of the container's asked for is refused.
func (g *gate) wall(l *link) error {
	g.walled = l
	if err := l.far.do(func() error { return g.WallDevice(l.index) }); err != nil {
		return err
	}
	if err := g.SetDevices(map[int]uint32{l.index: index}); err != nil {
		return err
	}
	if err := l.near.do(sendRefused); err != nil {
		return fmt.Errorf("send beside the container: %w", err)
	}
	ctx, stop := context.WithTimeout(context.Background(), patience*time.Second)
	defer stop()
	for {
		c, err := g.Counters(index)
		if err != nil || c.Deny == 1 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the wall on the link refuses nothing: %+v", c)
		case <-time.After(time.Millisecond):
		}
	}
}

// sendRefused is called in a namespace of a container's, by a process that is not
// its own.
func sendRefused() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, []byte{0}, 0, &unix.SockaddrInet4{Port: 9, Addr: refusedAddr.As4()})
}

// detach takes the gate off, where its devices are known by their numbers.
func (g *gate) detach() error {
	off := func() error {
		_, err := bpf.Detach(g.pins)
		return err
	}
	if g.walled == nil {
		return off()
	}
	return g.walled.far.do(off)
}
