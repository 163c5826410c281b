package enforcer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// floodEnv makes the test binary a sender instead: "first destinations rounds".
const floodEnv = "EGW_TEST_FLOOD"

func TestMain(m *testing.M) {
	if spec := os.Getenv(floodEnv); spec != "" {
		if err := flood(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// flood sends a datagram to each of a number of loopback addresses, and asks for
// a raw socket, some rounds over. Whether the gate lets them is counted by the gate alone.
func flood(spec string) error {
	var first, dests, rounds int
	if _, err := fmt.Sscan(spec, &first, &dests, &rounds); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for range rounds {
		for n := first; n < first+dests; n++ {
			to := &unix.SockaddrInet4{Port: 9}
			binary.BigEndian.PutUint32(to.Addr[:], 127<<24|16<<16+uint32(n))
			err := unix.Sendto(fd, []byte{1}, unix.MSG_DONTWAIT, to)
			if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOBUFS) {
				return fmt.Errorf("send %d: %w", n, err)
			}
		}
		raw, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err == nil {
			err = unix.Close(raw)
		}
		if err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("raw socket: %w", err)
		}
	}
	return nil
}

func floodSpec(first, dests, rounds int) string {
	return floodEnv + "=" + strconv.Itoa(first) + " " + strconv.Itoa(dests) + " " + strconv.Itoa(rounds)
}
