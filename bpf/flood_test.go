package bpf

import (
	"encoding/binary"
	"errors"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// loopback numbers the addresses from 127.16.0.0 on: they exist on every
// machine and cannot leave it.
func loopback(n int) (a [4]byte) {
	binary.BigEndian.PutUint32(a[:], 127<<24|16<<16+uint32(n))
	return a
}

// outcome of many sends.
type outcome struct{ passed, refused uint64 }

// flood sends n datagrams to each of the addresses [0, dests) in rounds, from a
// few threads, by unconnected sockets.
func flood(t testing.TB, threads, dests, rounds int) outcome {
	t.Helper()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		sum  outcome
		errs []error
	)
	for i := range threads {
		wg.Go(func() {
			o, err := floodFrom(i, threads, dests, rounds)
			mu.Lock()
			defer mu.Unlock()
			sum.passed += o.passed
			sum.refused += o.refused
			errs = append(errs, err)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return sum
}

func floodFrom(first, step, dests, rounds int) (o outcome, err error) {
	fd, err := udpSocket(unix.AF_INET)
	if err != nil {
		return o, err
	}
	defer unix.Close(fd)
	for range rounds {
		for n := first; n < dests; n += step {
			ok, err := sendTo(fd, &unix.SockaddrInet4{Port: 9, Addr: loopback(n)})
			if err != nil {
				return o, err
			}
			if ok {
				o.passed++
			} else {
				o.refused++
			}
		}
	}
	return o, nil
}

func udpSocket(family int) (int, error) {
	return unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
}

// sendTo sends one byte and reports whether the gate let it.
func sendTo(fd int, to unix.Sockaddr) (bool, error) {
	switch err := unix.Sendto(fd, []byte{1}, unix.MSG_DONTWAIT, to); {
	case err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ECONNREFUSED):
		return true, nil
	case errors.Is(err, unix.EPERM):
		return false, nil
	default:
		return false, err
	}
}
