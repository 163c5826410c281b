package cut

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/internal/testutil/cgroup"
)

// roleEnv makes the test binary one of two neighbours in a namespace instead.
const roleEnv = "EGW_TEST_ROLE"

// Ports: those of the peer, of which one is allowed, and those of the
// container itself.
const (
	portRefused, portAllowed, portHalf      = 7001, 7002, 7003
	portClient, portUDP, portServer, portIn = 7004, 7005, 6001, 6002
)

func TestMain(m *testing.M) {
	roles := map[string]func(*sockets) error{"peer": peer, "container": container, "caller": caller}
	role := os.Getenv(roleEnv)
	if role == "" {
		os.Exit(m.Run())
	}
	s := &sockets{fds: map[string]int{}, in: bufio.NewReader(os.Stdin)}
	if err := roles[role](s); err != nil {
		fmt.Fprintln(os.Stderr, role, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// process is a neighbour that answers how its sockets are.
type process struct {
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

// start runs a role in a cgroup; in the namespace of another process, or in
// one of its own.
func start(t *testing.T, g *cgroup.Group, role string, beside *process) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	if beside == nil {
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	} else {
		c = exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", beside.cmd.Process.Pid), self)
	}
	c.Env, c.Stderr = append(os.Environ(), roleEnv+"="+role), os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(nil, c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	p := &process{c, in, bufio.NewReader(out)}
	p.states(t)
	return p
}

// states asks for what each socket has to say: open, end, or an error's name.
func (p *process) states(t *testing.T) map[string]string {
	t.Helper()
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("a neighbour ended: %v", err)
	}
	var all map[string]string
	if err := json.Unmarshal(line, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func (p *process) look(t *testing.T) map[string]string {
	t.Helper()
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		t.Fatal(err)
	}
	return p.states(t)
}

// sockets are a role's.
type sockets struct {
	fds map[string]int
	in  *bufio.Reader
}

// serve tells how the sockets are, at once and for every line that it reads.
func (s *sockets) serve() error {
	for {
		all := map[string]string{}
		for name, fd := range s.fds {
			all[name] = state(fd)
		}
		line, err := json.Marshal(all)
		if err != nil {
			return err
		}
		fmt.Println(string(line))
		if _, err := s.in.ReadString('\n'); err != nil {
			return nil
		}
	}
}

func state(fd int) string {
	// An error is told once, and behind the peer's end by this alone.
	if no, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && no != 0 {
		return unix.ErrnoName(unix.Errno(no))
	}
	var b [1]byte
	n, _, err := unix.Recvfrom(fd, b[:], unix.MSG_DONTWAIT|unix.MSG_PEEK)
	switch no := unix.Errno(0); {
	case err == nil && n == 0:
		return "end"
	case err == nil || errors.Is(err, unix.EAGAIN):
		return "open"
	case errors.As(err, &no):
		return unix.ErrnoName(no)
	}
	return err.Error()
}

// add makes a socket from a port, to an address; without one it listens, or
// is not connected.
func (s *sockets) add(name string, kind int, from uint16, to string) error {
	family, at := unix.AF_INET6, netip.AddrPort{}
	if to != "" {
		at = netip.MustParseAddrPort(to)
		if at.Addr().Is4() {
			family = unix.AF_INET
		}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s.fds[name] = fd
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil && from != 0 {
		err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(unspecified(family), from)))
	}
	if err == nil && to != "" {
		err = unix.Connect(fd, sockaddr(at))
	} else if err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, 16)
	}
	if errors.Is(err, unix.EINPROGRESS) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func unspecified(family int) netip.Addr {
	if family == unix.AF_INET {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// network has loopback, and a way into the void: what is sent to 192.0.2.9
// arrives nowhere.
func network() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	void := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "void0"}, PeerName: "void1"}
	if err := errors.Join(netlink.LinkSetUp(lo), netlink.LinkAdd(void)); err != nil {
		return err
	}
	end, err := netlink.LinkByName("void1")
	if err != nil {
		return err
	}
	return errors.Join(
		netlink.AddrAdd(void, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 2, 1), Mask: net.CIDRMask(24, 32)}}),
		netlink.LinkSetUp(void), netlink.LinkSetUp(end),
		netlink.NeighAdd(&netlink.Neigh{
			LinkIndex: void.Index, State: netlink.NUD_PERMANENT, IP: net.IPv4(192, 0, 2, 9), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9},
		}))
}

// peer makes the network and is what the container talks to.
func peer(s *sockets) error {
	if err := network(); err != nil {
		return err
	}
	for _, port := range []uint16{portRefused, portAllowed, portHalf} {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				if port == portHalf {
					_ = c.(*net.TCPConn).CloseWrite()
				}
			}
		}()
	}
	if err := s.add("neighbour", unix.SOCK_STREAM, 0, at("127.0.0.1", portRefused)); err != nil {
		return err
	}
	return s.serve()
}

func at(ip string, port uint16) string {
	return netip.AddrPortFrom(netip.MustParseAddr(ip), port).String()
}

// refusedSockets are the container's that are to go, standing the others.
var refusedSockets = strings.Fields("tcp4 tcp6 tcp_mapped tcp_half tcp_connecting udp4 udp6 udp_mapped")

func container(s *sockets) error {
	const stream, dgram = unix.SOCK_STREAM, unix.SOCK_DGRAM
	err := errors.Join(
		s.add("tcp4", stream, 0, at("127.0.0.1", portRefused)),
		s.add("tcp6", stream, 0, at("::1", portRefused)),
		s.add("tcp_mapped", stream, 0, at("::ffff:127.0.0.1", portRefused)),
		s.add("tcp_half", stream, 0, at("127.0.0.1", portHalf)),
		s.add("tcp_connecting", stream, 0, at("192.0.2.9", portRefused)),
		s.add("udp4", dgram, 0, at("127.0.0.1", portUDP)),
		s.add("udp6", dgram, 0, at("::1", portUDP)),
		s.add("udp_mapped", dgram, 0, at("::ffff:127.0.0.1", portUDP)),

		s.add("tcp_allowed", stream, 0, at("127.0.0.1", portAllowed)),
		s.add("tcp_server", stream, portServer, ""),
		s.add("udp_server", dgram, portIn, ""),
		s.add("udp_answering", dgram, portIn, at("::ffff:127.0.0.1", portClient)),
		s.add("udp_unconnected", dgram, 0, ""))
	if err != nil {
		return err
	}
	// Whoever asks next has connected to the server.
	fmt.Println("{}")
	if _, err := s.in.ReadString('\n'); err != nil {
		return err
	}
	if s.fds["tcp_accepted"], _, err = unix.Accept(s.fds["tcp_server"]); err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	delete(s.fds, "tcp_server") // it has nothing to be read
	return s.serve()
}

// caller connects to the container's server from a port that is refused.
func caller(s *sockets) error {
	if err := s.add("caller", unix.SOCK_STREAM, portClient, at("127.0.0.1", portServer)); err != nil {
		return err
	}
	return s.serve()
}
