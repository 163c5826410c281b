package adversary

import (
	"net/netip"
	"time"
	"unsafe"

	"github.com/egresswarden/egresswarden/internal/testutil/probe"
	"golang.org/x/sys/unix"
)

func controls() []Technique {
	one := func(family, how string) Technique {
		return Technique{
			Name: "control " + how, Family: family, How: "what the policy allows: it must arrive",
			Allowed: true, Phase: PhaseFirst,
			run: func(a *attempt) error {
				if how == "udp" {
					return a.send(message{to: a.allowed(family)})
				}
				return a.stream(0, a.allowed(family))
			},
		}
	}
	return []Technique{one("4", "tcp"), one("6", "tcp"), one("4", "udp"), one("6", "udp")}
}

// dials are the probe's techniques, which the matrix tests as well.
func dials() []Technique {
	var all []Technique
	for _, how := range append(probe.Techniques("tcp"), probe.Techniques("udp")...) {
		for _, family := range []string{"4", "6", "mapped"} {
			t := Technique{
				Name: how, Family: family, How: "the usual calls, plainly", Phase: PhaseMany,
				run: func(a *attempt) error { return dial(how, a.to(family)) },
			}
			switch how {
			case "tcp_mptcp":
				t.Needs = "MPTCP"
			case "tcp_uring":
				t.Needs = "io_uring"
			}
			all = append(all, t)
		}
	}
	return all
}

// both makes one technique for each family.
func both(t Technique, run func(*attempt, string) error) []Technique {
	var all []Technique
	for _, family := range []string{"4", "6"} {
		one := t
		one.Family, one.run = family, func(a *attempt) error { return run(a, family) }
		if t.Phase == PhaseFirst {
			one.Phase = PhaseMany
		}
		all = append(all, one)
	}
	return all
}

// many joins.
func many(all ...[]Technique) []Technique {
	var flat []Technique
	for _, some := range all {
		flat = append(flat, some...)
	}
	return flat
}

// streams are ways of TCP that the probe does not have.
func streams() []Technique {
	return many(
		both(Technique{Name: "tcp_reconnect", How: "connect to what is allowed, dissolve with AF_UNSPEC, connect elsewhere"}, tcpReconnect),
		both(Technique{Name: "tcp_rebound", How: "listen on a port, close, connect from it with SO_REUSEADDR"}, tcpRebound),
		both(Technique{Name: "tcp_listener", How: "connect on the very socket that listened, after shutdown"}, tcpListener),
		both(Technique{Name: "tcp_dontroute", How: "SO_DONTROUTE", Needs: "a destination on the link"}, func(a *attempt, family string) error {
			return a.stream(0, a.to(family), setInt(unix.SOL_SOCKET, unix.SO_DONTROUTE, 1))
		}),
		both(Technique{Name: "tcp_device", How: "SO_BINDTODEVICE to eth0"}, func(a *attempt, family string) error {
			return a.stream(0, a.to(family), setBytes(unix.SOL_SOCKET, unix.SO_BINDTODEVICE, []byte(device)))
		}),
		both(Technique{Name: "tcp_fastopen_sendmsg", How: "MSG_FASTOPEN with control data"}, func(a *attempt, family string) error {
			return socket(domain(a.to(family).Addr()), unix.SOCK_STREAM, 0, func(fd int) error {
				control := control(unix.SOL_SOCKET, unix.SO_TIMESTAMPING, []byte{2, 0, 0, 0})
				return step("sendmsg", unix.Sendmsg(fd, a.text, control, sockaddr(a.to(family)), unix.MSG_FASTOPEN))
			})
		}),
		both(Technique{Name: "tcp_race", How: "threads connect without pause while the policy is swapped"}, tcpRace),
		both(Technique{Name: "tcp_repair", How: "TCP_REPAIR: established without a handshake, then data", Needs: "checkpoint/restore", Cap: "NET_ADMIN"}, tcpRepair),
		both(Technique{Name: "tcp_long_address", How: "connect with the address of the other family's size", Needs: "a kernel that takes it"}, tcpLongAddress),
	)
}

func tcpReconnect(a *attempt, family string) error {
	return socket(domain(a.to(family).Addr()), unix.SOCK_STREAM, 0, func(fd int) error {
		if err := connect(fd, a.allowed(family)); err != nil {
			return err
		}
		if err := dissolve(fd); err != nil {
			return err
		}
		if err := connect(fd, a.to(family)); err != nil {
			return err
		}
		return a.say(fd)
	})
}

// dissolve undoes a connect.
func dissolve(fd int) error {
	var unspec unix.RawSockaddr
	_, _, no := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspec)), unix.SizeofSockaddrInet4)
	return step("connect AF_UNSPEC", errnoOrNil(no))
}

func anyAddr(family string, port uint16) netip.AddrPort {
	if family == "4" {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), port)
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), port)
}

func tcpRebound(a *attempt, family string) error {
	reuse := setInt(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	at := bindTo(anyAddr(family, a.Port()))
	err := socket(domain(a.to(family).Addr()), unix.SOCK_STREAM, 0, func(fd int) error {
		if err := apply(fd, []tweak{reuse, at}); err != nil {
			return err
		}
		return step("listen", unix.Listen(fd, 1))
	})
	if err != nil {
		return err
	}
	return a.stream(0, a.to(family), reuse, at)
}

func tcpListener(a *attempt, family string) error {
	return socket(domain(a.to(family).Addr()), unix.SOCK_STREAM, 0, func(fd int) error {
		if err := step("listen", unix.Listen(fd, 1)); err != nil {
			return err
		}
		if err := step("shutdown", unix.Shutdown(fd, unix.SHUT_RD)); err != nil {
			return err
		}
		if err := connect(fd, a.to(family)); err != nil {
			return err
		}
		return a.say(fd)
	})
}

// tcpRace tries for a while, on several threads.
func tcpRace(a *attempt, family string) error {
	const threads, span = 3, 300 * time.Millisecond
	ends := make(chan error, threads)
	for range threads {
		go func() {
			var err error
			for began := time.Now(); time.Since(began) < span; {
				if err = a.stream(0, a.to(family)); err == nil {
					break
				}
			}
			ends <- err
		}()
	}
	var last error
	for range threads {
		err := <-ends
		if err == nil {
			last = nil
			break
		}
		last = err
	}
	return last
}

func tcpRepair(a *attempt, family string) error {
	return socket(domain(a.to(family).Addr()), unix.SOCK_STREAM, 0, func(fd int) error {
		if err := apply(fd, []tweak{setInt(unix.SOL_TCP, unix.TCP_REPAIR, 1)}); err != nil {
			return err
		}
		if err := connect(fd, a.to(family)); err != nil {
			return err
		}
		if err := apply(fd, []tweak{setInt(unix.SOL_TCP, unix.TCP_REPAIR, 0)}); err != nil {
			return err
		}
		return a.say(fd)
	})
}

// tcpLongAddress gives an IPv4 socket an address with a tail, and an IPv6
// socket one that is cut before its scope, as old programs did.
func tcpLongAddress(a *attempt, family string) error {
	return socket(domain(a.to(family).Addr()), unix.SOCK_STREAM, 0, func(fd int) error {
		raw := probe.RawSockaddr(a.to(family))
		if family == "4" {
			raw = append(raw, make([]byte, 112)...)
		} else {
			raw = raw[:24]
		}
		_, _, no := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&raw[0])), uintptr(len(raw)))
		if err := step("connect", errnoOrNil(no)); err != nil {
			return err
		}
		return a.say(fd)
	})
}

func errnoOrNil(no unix.Errno) error {
	if no == 0 {
		return nil
	}
	return no
}

// control makes one control message.
func control(level, kind int, data []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = int32(level), int32(kind)
	h.SetLen(unix.CmsgLen(len(data)))
	copy(b[unix.CmsgLen(0):], data)
	return b
}

func ptr(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }
