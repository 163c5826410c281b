package world

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// sinkPatience bounds a sink's connection that nothing is sent on.
const sinkPatience = 5 * time.Minute

// Listen adds a port on which every owned address, and the world's end of the
// link, answers: TCP and UDP echo what they get.
func (w *World) Listen(port uint16) error {
	var l net.Listener
	var four, six net.PacketConn
	err := w.World.Do(func() error {
		var lc net.ListenConfig
		ctx, at := context.Background(), fmt.Sprintf(":%d", port)
		lc.SetMultipathTCP(true)
		var errs [3]error
		l, errs[0] = lc.Listen(ctx, "tcp", at)
		four, errs[1] = lc.ListenPacket(ctx, "udp4", at)
		six, errs[2] = lc.ListenPacket(ctx, "udp6", at)
		return errors.Join(errs[:]...)
	})
	if err != nil {
		return fmt.Errorf("sink on port %d: %w", port, err)
	}
	w.closers = append(w.closers, l.Close, four.Close, six.Close)
	w.sinks.Go(func() { echoStreams(l) })
	w.sinks.Go(func() { echoPackets4(four) })
	w.sinks.Go(func() { echoPackets6(six) })
	return nil
}

func echoStreams(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(sinkPatience))
			_, _ = io.Copy(c, c)
		}()
	}
}

// echoPackets4 answers from the address that was asked, which a socket bound
// to none does not do by itself.
func echoPackets4(c net.PacketConn) {
	p := ipv4.NewPacketConn(c)
	if p.SetControlMessage(ipv4.FlagDst, true) != nil {
		return
	}
	for buf := make([]byte, 64<<10); ; {
		n, cm, from, err := p.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && cm != nil {
			_, _ = p.WriteTo(buf[:n], &ipv4.ControlMessage{Src: cm.Dst}, from)
		}
	}
}

func echoPackets6(c net.PacketConn) {
	p := ipv6.NewPacketConn(c)
	if p.SetControlMessage(ipv6.FlagDst, true) != nil {
		return
	}
	for buf := make([]byte, 64<<10); ; {
		n, cm, from, err := p.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil && cm != nil {
			_, _ = p.WriteTo(buf[:n], &ipv6.ControlMessage{Src: cm.Dst}, from)
		}
	}
}
