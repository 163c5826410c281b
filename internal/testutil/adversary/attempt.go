package adversary

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/egresswarden/egresswarden/internal/testutil/probe"
	"golang.org/x/sys/unix"
)

// Settings tell the program where it is. The addresses are those of the
// container's network.
type Settings struct {
	Run int `json:"run"`
	// Allowed are what the policy allows.
	Allowed4 netip.AddrPort `json:"allowed4"`
	Allowed6 netip.AddrPort `json:"allowed6"`
	// Gateway and Neighbour are on the link, Host is behind it.
	Gateway4   netip.Addr `json:"gateway4"`
	Gateway6   netip.Addr `json:"gateway6"`
	Neighbour4 netip.Addr `json:"neighbour4"`
	Neighbour6 netip.Addr `json:"neighbour6"`
	Host4      netip.Addr `json:"host4"`
	// Outside is the socket of the accomplice, a Unix one, see Ask.
	Outside string `json:"outside"`
	// Wait lets the accomplice say when to begin.
	Wait bool `json:"wait,omitempty"`
	// Pause lets the accomplice interfere half-way.
	Pause bool `json:"pause,omitempty"`
	// Admin adds the techniques of PhaseAdmin.
	Admin bool `json:"admin,omitempty"`

	barrier *barrier
}

const (
	device = "eth0"
	// patience is for answers, which most techniques do not need; impatience is
	// for those that never come.
	patience   = 10 * time.Second
	impatience = time.Second
)

// attempt is one technique at work.
type attempt struct {
	Settings
	Mark

	text []byte
	// arrived is for the barrier.
	arrived sync.Once
}

// arrive tells the barrier, once.
func (a *attempt) arrive() {
	if a.barrier != nil {
		a.arrived.Do(a.barrier.opened.Done)
	}
}

func newAttempt(s Settings, n int) *attempt {
	m := Mark{s.Run, n}
	return &attempt{Settings: s, Mark: m, text: []byte(m.Text())}
}

// to4 and to6 are the technique's own destinations, with a port that answers.
func (a *attempt) to4() netip.AddrPort { return netip.AddrPortFrom(a.Addr4(), 443) }
func (a *attempt) to6() netip.AddrPort { return netip.AddrPortFrom(a.Addr6(), 443) }

// to is by family: 4, 6, or mapped.
func (a *attempt) to(family string) netip.AddrPort {
	switch family {
	case "6":
		return a.to6()
	case "mapped":
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr4().As16()), 443)
	}
	return a.to4()
}

func (a *attempt) allowed(family string) netip.AddrPort {
	if family == "6" {
		return a.Allowed6
	}
	return a.Allowed4
}

// at is another's address with the technique's own port.
func (a *attempt) at(ip netip.Addr) netip.AddrPort { return netip.AddrPortFrom(ip, a.Port()) }

// own is the container's address.
func (a *attempt) own(family string) (netip.Addr, error) {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return netip.Addr{}, step("find eth0", err)
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, step("find eth0", err)
	}
	for _, one := range addrs {
		p, err := netip.ParsePrefix(one.String())
		if err == nil && !p.Addr().IsLinkLocalUnicast() && p.Addr().Is4() == (family == "4") {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, errors.New("eth0 has no address of family " + family)
}

func ifindex(name string) int {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return 0
	}
	return ifi.Index
}

// dial leaves the work to the probe.
func dial(how string, to netip.AddrPort) error {
	if r := probe.Dial(how, to, patience); !r.OK {
		return &probeError{r}
	}
	return nil
}

func domain(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: zone(a.Addr())}
}

func zone(a netip.Addr) uint32 {
	if a.Zone() == "" {
		return 0
	}
	return uint32(ifindex(a.Zone()))
}

// socket opens one, with timeouts, and closes it after use.
func socket(domain, kind, proto int, use func(fd int) error) error {
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return step("socket", err)
	}
	defer unix.Close(fd)
	if err := wait(patience)(fd); err != nil {
		return err
	}
	return use(fd)
}

// wait sets the socket's timeouts.
func wait(d time.Duration) tweak {
	return func(fd int) error {
		tv := unix.NsecToTimeval(d.Nanoseconds())
		return step("set timeouts", errors.Join(
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)))
	}
}

func connect(fd int, to netip.AddrPort) error {
	return step("connect", unix.Connect(fd, sockaddr(to)))
}

// say writes the mark.
func (a *attempt) say(fd int) error {
	_, err := unix.Write(fd, a.text)
	return step("send", err)
}

// stream connects, after the socket was prepared, and sends the mark.
func (a *attempt) stream(proto int, to netip.AddrPort, prepare ...tweak) error {
	return socket(domain(to.Addr()), unix.SOCK_STREAM, proto, func(fd int) error {
		if err := apply(fd, prepare); err != nil {
			return err
		}
		if err := connect(fd, to); err != nil {
			return err
		}
		return a.say(fd)
	})
}

// message is one that sendmsg takes.
type message struct {
	kind, proto int
	to          netip.AddrPort
	text        []byte
	control     []byte
	flags       int
	prepare     []tweak
	// flow is the flow label of IPv6.
	flow uint32
	// connect to it instead of naming it.
	connect bool
}

// send opens a socket for the message, which is the mark if it has no text.
func (a *attempt) send(m message) error {
	if m.kind == 0 {
		m.kind = unix.SOCK_DGRAM
	}
	if m.text == nil {
		m.text = a.text
	}
	return socket(domain(m.to.Addr()), m.kind, m.proto, func(fd int) error {
		if err := apply(fd, m.prepare); err != nil {
			return err
		}
		if m.connect {
			if err := connect(fd, m.to); err != nil {
				return err
			}
			return step("send", unix.Sendmsg(fd, m.text, m.control, nil, m.flags))
		}
		return step("sendmsg", sendmsg(fd, m))
	})
}

// sendmsg names the destination itself, with the flow label, which the package
// unix leaves out.
func sendmsg(fd int, m message) error {
	if m.flow == 0 {
		return unix.Sendmsg(fd, m.text, m.control, sockaddr(m.to), m.flags)
	}
	name := rawAddr(m.to)
	binary.BigEndian.PutUint32(name[4:], m.flow)
	_, _, no := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), ptr(m.text), uintptr(len(m.text)), uintptr(m.flags), ptr(name), uintptr(len(name)))
	return errnoOrNil(no)
}

// tweak prepares a socket.
type tweak func(fd int) error

func apply(fd int, all []tweak) error {
	for _, t := range all {
		if err := t(fd); err != nil {
			return err
		}
	}
	return nil
}

func setInt(level, name, value int) tweak {
	return func(fd int) error { return step("setsockopt", unix.SetsockoptInt(fd, level, name, value)) }
}

func setBytes(level, name int, value []byte) tweak {
	return func(fd int) error { return step("setsockopt", unix.SetsockoptString(fd, level, name, string(value))) }
}

func bindTo(a netip.AddrPort) tweak {
	return func(fd int) error { return step("bind", unix.Bind(fd, sockaddr(a))) }
}
