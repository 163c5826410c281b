package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// helperEnv makes this test binary a helper process of a test instead.
const helperEnv = "EGW_BPF_HELPER"

var helpers = map[string]func(args []string) error{
	"dial":   helperDial,
	"sweep":  helperSweep,
	"speak":  helperSpeak,
	"closed": helperClosed,
	"ping":   helperPing,
	"frame":  helperFrame,
}

func TestMain(m *testing.M) {
	words := strings.Fields(os.Getenv(helperEnv))
	if len(words) == 0 {
		os.Exit(m.Run())
	}
	if err := helpers[words[0]](words[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// startHelper starts a helper process, born in the cgroup if there is one.
func startHelper(t testing.TB, cgroup string, words ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+strings.Join(words, " "))
	cmd.Stderr = os.Stderr
	if cgroup != "" {
		dir, err := os.Open(cgroup)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(out)
}

// sendsIn reports whether a process born in the cgroup may send.
func sendsIn(t testing.TB, cgroup string) bool {
	t.Helper()
	cmd, out := startHelper(t, cgroup, "dial")
	word := line(t, out)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return word == "passed"
}

// line reads a whole line of a helper's.
func line(t testing.TB, out *bufio.Reader) string {
	t.Helper()
	s, err := out.ReadString('\n')
	if err != nil {
		t.Fatalf("read the helper's line: %v", err)
	}
	return strings.TrimSuffix(s, "\n")
}

func helperDial([]string) error {
	fd, err := udpSocket(unix.AF_INET)
	if err != nil {
		return err
	}
	ok, err := sendTo(fd, &unix.SockaddrInet4{Port: 9, Addr: loopback(0)})
	if ok {
		fmt.Println("passed")
	} else {
		fmt.Println("refused")
	}
	return err
}

// helperSpeak sends a datagram to a UDP server from each of n sockets.
func helperSpeak(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	for range n {
		c, err := net.Dial("udp", args[0])
		if err != nil {
			return err
		}
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}

// helperSweep sweeps and reads, tells of each event, and commits only every
// other time; it ends by being killed.
func helperSweep(args []string) error {
	g, err := Open(Options{PinDir: args[0], CgroupRoot: args[1]})
	if err != nil {
		return err
	}
	fmt.Println("open")
	for i := 0; ; i++ {
		if _, err := g.Sweep(); err != nil {
			return err
		}
		events, next := g.Ring().TryRead(64)
		var b strings.Builder
		for _, e := range events {
			fmt.Fprintln(&b, e.Position, e.Index, uint8(e.Verdict), e.Count)
		}
		if _, err := io.WriteString(os.Stdout, b.String()); err != nil {
			return err
		}
		if i%2 == 0 {
			if err := g.Ring().Commit(next); err != nil {
				return err
			}
		}
	}
}

// helperClosed speaks to a port where nobody listens.
func helperClosed(args []string) error {
	c, err := net.DialTimeout(args[0], net.JoinHostPort(args[1], "9"), 30*time.Second)
	if err == nil {
		defer c.Close()
		if err = c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			return err
		}
		if _, err = c.Write([]byte("hello")); err == nil {
			_, err = c.Read(make([]byte, 1))
		}
	}
	if errors.Is(err, unix.ECONNREFUSED) {
		fmt.Println("answered")
	} else {
		fmt.Println(err)
	}
	return nil
}

// helperPing waits for the answer to a ping of that many octets more.
func helperPing(args []string) error {
	more, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	to := netip.MustParseAddr(args[1])
	family, proto, asks, answers, at := unix.AF_INET, unix.IPPROTO_ICMP, byte(8), byte(0), 20
	if to.Is6() {
		family, proto, asks, answers, at = unix.AF_INET6, unix.IPPROTO_ICMPV6, 128, 129, 0
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return err
	}
	tv := unix.NsecToTimeval(int64(30 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return err
	}
	if err := unix.Sendto(fd, append(echo(asks), make([]byte, more)...), 0, sockaddr(to, 0)); err != nil {
		return err
	}
	for buf := make([]byte, 1<<16); ; {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			fmt.Println(err)
			return nil
		}
		if n > at && buf[at] == answers {
			fmt.Println("answered")
			return nil
		}
	}
}

// helperFrame writes a frame of a type to a device.
func helperFrame(args []string) error {
	kind, err := strconv.ParseUint(args[1], 10, 16)
	if err != nil {
		return err
	}
	ifi, err := net.InterfaceByName(args[0])
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Sendto(fd, make([]byte, 28), 0, broadcast(ifi.Index, uint16(kind)))
}
