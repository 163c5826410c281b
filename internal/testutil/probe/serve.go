package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ServeOptions says what Serve listens on; "4" or "6" or "dual" each.
type ServeOptions struct {
	Family string
	Port   uint16
	// Connected answers each UDP peer from a socket of its own that is
	// connected to it; otherwise the listening socket answers.
	Connected bool
}

// Serve echoes TCP streams and UDP datagrams until ctx ends. ready is called
// when both listen.
func Serve(ctx context.Context, o ServeOptions, ready func()) error {
	suffix := map[string]string{"4": "4", "6": "6", "dual": ""}
	family, ok := suffix[o.Family]
	if !ok {
		return fmt.Errorf("serve: family %q: want 4, 6 or dual", o.Family)
	}
	lc := net.ListenConfig{Control: reusePort}
	at := fmt.Sprintf(":%d", o.Port)
	if o.Family == "4" {
		at = fmt.Sprintf("0.0.0.0:%d", o.Port)
	}
	l, err := lc.Listen(ctx, "tcp"+family, at)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer l.Close()
	pc, err := lc.ListenPacket(ctx, "udp"+family, at)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer pc.Close()
	ready()
	ends := make(chan error, 2)
	go func() { ends <- serveStreams(l) }()
	go func() { ends <- servePackets(pc.(*net.UDPConn), o.Connected) }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-ends:
		return err
	}
}

func serveStreams(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

func servePackets(pc *net.UDPConn, connected bool) error {
	for buf := make([]byte, 64<<10); ; {
		n, from, err := pc.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		if err := answer(pc, buf[:n], from, connected); err != nil {
			// The client sees no answer; the log says why.
			fmt.Fprintf(os.Stderr, "answer %s: %v\n", from, err)
		}
	}
}

func answer(pc *net.UDPConn, text []byte, to netip.AddrPort, connected bool) error {
	if !connected {
		_, err := pc.WriteToUDPAddrPort(text, to)
		return err
	}
	d := net.Dialer{LocalAddr: pc.LocalAddr(), Control: reusePort}
	c, err := d.Dial(pc.LocalAddr().Network(), to.String())
	if err != nil {
		return err
	}
	_, err = c.Write(text)
	return errors.Join(err, c.Close())
}

// reusePort lets a connected socket share the port of the listening one.
func reusePort(_, _ string, c syscall.RawConn) error {
	var err error
	err2 := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
	return errors.Join(err, err2)
}
