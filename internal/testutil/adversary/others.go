package adversary

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// Protocols and options that unix has no name for.
const (
	solSCTP          = 132
	sctpConnectX     = 110
	protoExperiment  = 253
	protoDCCP        = 33
	afSMC            = 43
	dccpService      = 2
	sockDCCP         = 6
	udpLiteChecksums = 10
)

// others are protocols besides TCP, UDP and raw ones.
func others() []Technique {
	return many(
		both(Technique{Name: "udplite sendto", How: "UDP-Lite", Needs: "UDP-Lite"}, func(a *attempt, family string) error {
			return a.send(message{proto: unix.IPPROTO_UDPLITE, to: a.to(family)})
		}),
		both(Technique{Name: "udplite connect", How: "UDP-Lite, connected, with partial checksums", Needs: "UDP-Lite"}, func(a *attempt, family string) error {
			return a.send(message{proto: unix.IPPROTO_UDPLITE, to: a.to(family), connect: true,
				prepare: []tweak{setInt(unix.IPPROTO_UDPLITE, udpLiteChecksums, 8)}})
		}),
		both(Technique{Name: "sctp one-to-one", How: "connect", Needs: "SCTP"}, func(a *attempt, family string) error {
			return a.stream(unix.IPPROTO_SCTP, a.to(family))
		}),
		both(Technique{Name: "sctp one-to-many", How: "sendmsg makes the association", Needs: "SCTP"}, func(a *attempt, family string) error {
			return a.send(message{kind: unix.SOCK_SEQPACKET, proto: unix.IPPROTO_SCTP, to: a.to(family)})
		}),
		both(Technique{Name: "sctp connectx", How: "setsockopt makes the association", Needs: "SCTP"}, func(a *attempt, family string) error {
			return socket(domain(a.to(family).Addr()), unix.SOCK_STREAM, unix.IPPROTO_SCTP, func(fd int) error {
				return apply(fd, []tweak{setBytes(solSCTP, sctpConnectX, rawAddr(a.to(family)))})
			})
		}),
		both(Technique{Name: "dccp", How: "connect", Needs: "DCCP"}, func(a *attempt, family string) error {
			return socket(domain(a.to(family).Addr()), sockDCCP, protoDCCP, func(fd int) error {
				if err := apply(fd, []tweak{setInt(269, dccpService, 1)}); err != nil {
					return err
				}
				return connect(fd, a.to(family))
			})
		}),
		both(Technique{Name: "l2tp", How: "an L2TP/IP socket", Needs: "L2TP"}, func(a *attempt, family string) error {
			return a.send(message{proto: unix.IPPROTO_L2TP, to: a.to(family)})
		}),
		both(Technique{Name: "smc", How: "SMC, which speaks TCP underneath", Needs: "SMC"}, func(a *attempt, family string) error {
			proto := map[string]int{"4": 0, "6": 1}[family]
			return socket(afSMC, unix.SOCK_STREAM, proto, func(fd int) error {
				if err := connect(fd, a.to(family)); err != nil {
					return err
				}
				return a.say(fd)
			})
		}),
		[]Technique{
			{Name: "vsock", How: "a stream to the local context", Needs: "vsock with loopback", Phase: PhaseMany, run: func(*attempt) error {
				return socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0, func(fd int) error {
					// Never another context: that would be outside the machine.
					return step("connect", unix.Connect(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_LOCAL, Port: 443}))
				})
			}},
			{Name: "other families", How: "a socket of any family that is not judged", Needs: "one that sends by itself", Phase: PhaseMany, run: families},
		})
}

// families makes sockets of every other family, and says of which it could.
func families(*attempt) error {
	known := map[int]bool{
		unix.AF_UNIX: true, unix.AF_INET: true, unix.AF_INET6: true, unix.AF_NETLINK: true,
		unix.AF_PACKET: true, unix.AF_VSOCK: true, unix.AF_XDP: true, afSMC: true,
	}
	var made []string
	for family := 1; family < 48; family++ {
		if known[family] {
			continue
		}
		for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_RAW, unix.SOCK_SEQPACKET} {
			if fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0); err == nil {
				unix.Close(fd)
				made = append(made, fmt.Sprintf("%d/%d", family, kind))
			}
		}
	}
	if len(made) == 0 {
		return step("socket", unix.EAFNOSUPPORT)
	}
	return errors.New("made " + strings.Join(made, " "))
}

// pings are ICMP echo requests without privilege.
func pings() []Technique {
	ping := func(a *attempt, family string, connected bool) error {
		m := message{proto: unix.IPPROTO_ICMP, to: netip.AddrPortFrom(a.to(family).Addr(), 0), connect: connected}
		kind := byte(8)
		if family == "6" {
			m.proto, kind = unix.IPPROTO_ICMPV6, 128
		}
		m.text = append([]byte{kind, 0, 0, 0, 0, 0, 0, 1}, a.text...)
		return a.send(m)
	}
	needs := "net.ipv4.ping_group_range"
	return many(
		both(Technique{Name: "ping sendto", How: "an ICMP socket without privilege", Needs: needs}, func(a *attempt, family string) error {
			return ping(a, family, false)
		}),
		both(Technique{Name: "ping connect", How: "an ICMP socket without privilege, connected", Needs: needs}, func(a *attempt, family string) error {
			return ping(a, family, true)
		}))
}
