package adversary

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// System calls of 32-bit programs.
const (
	call32Socketcall = 102
	call32Connect    = 362
	call32Setsockopt = 366
	socketcallConn   = 3
	map32Bit         = 0x40
)

// compat goes by 32-bit system calls, which hooks may not see.
func compat() []Technique {
	const needs = "32-bit system calls"
	return many(
		both(Technique{Name: "32-bit connect", How: "connect by int 0x80", Needs: needs, Phase: PhaseOwn}, func(a *attempt, family string) error {
			return a.connect32(family, func(fd int, addr uintptr, size int) unix.Errno {
				return call32(call32Connect, uintptr(fd), addr, uintptr(size), 0, 0)
			})
		}),
		both(Technique{Name: "32-bit socketcall", How: "socketcall(SYS_CONNECT) by int 0x80", Needs: needs, Phase: PhaseOwn}, func(a *attempt, family string) error {
			return a.connect32(family, func(fd int, addr uintptr, size int) unix.Errno {
				args, err := low(12)
				if err != nil {
					return unix.ENOMEM
				}
				binary.NativeEndian.PutUint32(args, uint32(fd))
				binary.NativeEndian.PutUint32(args[4:], uint32(addr))
				binary.NativeEndian.PutUint32(args[8:], uint32(size))
				return call32(call32Socketcall, socketcallConn, ptr(args), 0, 0, 0)
			})
		}),
		[]Technique{
			{Name: "32-bit source route", Family: "4", How: "IP_OPTIONS by a 32-bit setsockopt", Needs: needs, Cap: "NET_RAW", Phase: PhaseOwn, run: func(a *attempt) error {
				return a.send(message{to: a.Allowed4, text: []byte("-"), prepare: []tweak{
					set32(unix.SOL_IP, unix.IP_OPTIONS, sourceRoute(a.Addr4())),
				}})
			}},
			{Name: "32-bit routing header", Family: "6", How: "IPV6_RTHDR by a 32-bit setsockopt", Needs: needs, Phase: PhaseOwn, run: func(a *attempt) error {
				return a.send(message{to: a.Allowed6, text: []byte("-"), prepare: []tweak{
					set32(unix.SOL_IPV6, unix.IPV6_RTHDR, segments(a.Allowed6.Addr(), a.Addr6())),
				}})
			}},
			{Name: "32-bit forged peer", Family: "6", How: "IPV6_FREEBIND by a 32-bit setsockopt: plays the destination, and is then answered", Needs: needs, Phase: PhaseOwn, run: func(a *attempt) error {
				return a.forgePeer("6", set32(unix.SOL_IPV6, unix.IPV6_FREEBIND, word(1)))
			}},
		})
}

// low is memory whose address has 32 bits.
func low(size int) ([]byte, error) {
	return unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|map32Bit)
}

func call32(number, a1, a2, a3, a4, a5 uintptr) unix.Errno {
	if r := int32(int80(number, a1, a2, a3, a4, a5)); r < 0 {
		return unix.Errno(-r)
	}
	return 0
}

func (a *attempt) connect32(family string, call func(int, uintptr, int) unix.Errno) error {
	to := a.to(family)
	return socket(domain(to.Addr()), unix.SOCK_STREAM, 0, func(fd int) error {
		raw := rawAddr(to)
		addr, err := low(len(raw))
		if err != nil {
			return step("mmap", err)
		}
		copy(addr, raw)
		if err := step("connect", errnoOrNil(call(fd, ptr(addr), len(raw)))); err != nil {
			return err
		}
		return a.say(fd)
	})
}

func set32(level, name int, value []byte) tweak {
	return func(fd int) error {
		mem, err := low(len(value))
		if err != nil {
			return step("mmap", err)
		}
		copy(mem, value)
		return step("setsockopt", errnoOrNil(call32(call32Setsockopt,
			uintptr(fd), uintptr(level), uintptr(name), ptr(mem), uintptr(len(value)))))
	}
}

// forgePeer plays the destination on a socket of its own that the tweak lets
// bind there, writes to another socket, and answers from that.
func (a *attempt) forgePeer(family string, lend tweak, before ...func() error) error {
	loopback, peer := netip.MustParseAddr("127.0.0.1"), a.to(family)
	if family == "6" {
		loopback = netip.IPv6Loopback()
	}
	at := netip.AddrPortFrom(loopback, a.Port())
	return socket(domain(loopback), unix.SOCK_DGRAM, 0, func(server int) error {
		if err := apply(server, []tweak{bindTo(anyAddr(family, a.Port()))}); err != nil {
			return err
		}
		err := socket(domain(loopback), unix.SOCK_DGRAM, 0, func(fd int) error {
			if err := apply(fd, []tweak{lend, bindTo(peer)}); err != nil {
				return err
			}
			return step("sendto itself", unix.Sendto(fd, []byte("-"), 0, sockaddr(at)))
		})
		if err != nil {
			return err
		}
		return a.reply(server, before...)
	})
}

// reply sends the mark to whoever wrote to the server, when before is done.
func (a *attempt) reply(server int, before ...func() error) error {
	_, from, err := unix.Recvfrom(server, make([]byte, 64), 0)
	if err != nil {
		return step("recvfrom", err)
	}
	for _, f := range before {
		if err := f(); err != nil {
			return err
		}
	}
	return step("sendto", unix.Sendto(server, a.text, 0, from))
}
