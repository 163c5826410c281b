package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	workerArg = "worker"
	// batch is what is timed at once; queues hold it without a reader.
	batch = 32
	// knowns are the destinations of a turn without new ones.
	knowns = 256
)

// turn is one task of a worker.
type turn struct {
	Kind    string         `json:"kind"` // connect, udp, send, bulk, or of kinds.go
	New     bool           `json:"new"`  // each destination once
	First   uint64         `json:"first"`
	Batches int            `json:"batches"`
	To      netip.AddrPort `json:"to"` // over a link
}

// worker sends to itself, on one thread: what a peer does with it costs it
// nothing while it is timed.
type worker struct {
	walk     walk
	listener int
	tcpPort  int
	receiver int
	udpPort  int
	udp      int
	out, in  int // an established connection
	buffer   []byte
	links    map[string]int // the socket of a kind of turn over the link
}

// serve does the turns that it reads and writes the nanoseconds of an
// operation, batch by batch. Arguments: cpu, number of prefixes, firewall.
func serve(r io.Reader, w io.Writer, args []string) error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	cpu, cpuErr := strconv.Atoi(args[0])
	n, nErr := strconv.Atoi(args[1])
	if err := errors.Join(cpuErr, nErr, loopbackUp(), firewall(args[2], n), pin(cpu)); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	k, err := newWorker(n)
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	in, out := bufio.NewScanner(r), json.NewEncoder(w)
	if err := out.Encode([]float64{}); err != nil { // ready
		return err
	}
	for in.Scan() {
		var t turn
		if err := json.Unmarshal(in.Bytes(), &t); err != nil {
			return fmt.Errorf("worker: %w", err)
		}
		times, err := k.do(t)
		if err != nil {
			return fmt.Errorf("worker: %s: %w", t.Kind, err)
		}
		if err := out.Encode(times); err != nil {
			return err
		}
		runtime.GC()
	}
	return in.Err()
}

func newWorker(n int) (k *worker, err error) {
	k = &worker{walk: prefixesOf(n), buffer: make([]byte, 64<<10), links: map[string]int{}}
	if k.listener, k.tcpPort, err = bound(unix.SOCK_STREAM); err != nil {
		return nil, err
	}
	if err := unix.Listen(k.listener, 4*batch); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if k.receiver, k.udpPort, err = bound(unix.SOCK_DGRAM); err != nil {
		return nil, err
	}
	if k.udp, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	return k, nil
}

// bound gives a socket on every address and any port, which does not wait.
func bound(kind int) (fd, port int, err error) {
	fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{}); err != nil {
		return 0, 0, fmt.Errorf("bind: %w", err)
	}
	a, err := unix.Getsockname(fd)
	if err != nil {
		return 0, 0, fmt.Errorf("getsockname: %w", err)
	}
	return fd, a.(*unix.SockaddrInet4).Port, nil
}

func (k *worker) do(t turn) ([]float64, error) {
	if err := k.prepare(t); err != nil {
		return nil, err
	}
	to := k.destinations(t)
	times := make([]float64, 0, t.Batches)
	for len(to) > 0 {
		start := time.Now()
		if err := k.batch(t.Kind, to[:batch]); err != nil {
			return nil, err
		}
		times = append(times, float64(time.Since(start))/batch)
		if err := k.drain(); err != nil {
			return nil, err
		}
		to = to[batch:]
	}
	return times, nil
}

func (k *worker) prepare(t turn) error {
	switch t.Kind {
	case "send":
		return k.establish()
	case "bulk":
		if err := k.establish(); err != nil {
			return err
		}
		return k.widen()
	case linkSendto, linkUDP, linkStream:
		return k.openLink(t)
	}
	return nil
}

func (k *worker) destinations(t turn) []*unix.SockaddrInet4 {
	to := make([]*unix.SockaddrInet4, t.count())
	port := k.tcpPort
	if t.Kind == "udp" {
		port = k.udpPort
	}
	for i := range to {
		if t.linked() {
			to[i] = &unix.SockaddrInet4{Port: int(t.To.Port()), Addr: t.To.Addr().As4()}
			continue
		}
		at := t.First + uint64(i)
		if !t.New {
			at %= knowns
		}
		to[i] = &unix.SockaddrInet4{Port: port, Addr: k.walk.at(at)}
	}
	return to
}

func (k *worker) batch(kind string, to []*unix.SockaddrInet4) error {
	fd := k.links[kind]
	for _, a := range to {
		var err error
		switch kind {
		case "connect":
			err = connectClose(a)
		case "udp":
			err = unix.Sendto(k.udp, k.buffer[:1], 0, a)
		case "send":
			_, err = unix.Write(k.out, k.buffer[:1])
		case "bulk":
			_, err = unix.Write(k.out, k.buffer[:chunk])
		case socketUDP:
			err = makeClose(unix.SOCK_DGRAM)
		case socketTCP:
			err = makeClose(unix.SOCK_STREAM)
		case linkSendto:
			err = unix.Sendto(fd, k.buffer[:small], 0, a)
		case linkUDP:
			_, err = unix.Write(fd, k.buffer[:small])
		case linkStream:
			err = writeAll(fd, k.buffer[:chunk])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// connectClose resets the connection, so that no port stays in use.
func connectClose(a *unix.SockaddrInet4) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	return errors.Join(err, unix.Connect(fd, a), unix.Close(fd))
}

// drain takes what arrived, outside of the time.
func (k *worker) drain() error {
	for {
		fd, _, err := unix.Accept4(k.listener, unix.SOCK_CLOEXEC)
		if err != nil {
			break
		}
		unix.Close(fd)
	}
	for _, fd := range []int{k.receiver, k.in} {
		for fd > 0 {
			if _, err := unix.Read(fd, k.buffer); errors.Is(err, unix.EAGAIN) {
				break
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// establish makes the standing connection, once.
func (k *worker) establish() error {
	if k.out > 0 {
		return nil
	}
	out, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = errors.Join(
		unix.SetsockoptInt(out, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.Connect(out, &unix.SockaddrInet4{Port: k.tcpPort, Addr: k.walk.at(0)}),
	)
	if err != nil {
		return err
	}
	in, _, err := unix.Accept4(k.listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return err
	}
	k.out, k.in = out, in
	return nil
}

// widen gives the connection room for a batch that nobody reads, which needs
// root.
func (k *worker) widen() error {
	return errors.Join(
		unix.SetsockoptInt(k.out, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4<<20),
		unix.SetsockoptInt(k.in, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20),
	)
}
