package adversary

import (
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Neutral is where the accomplice connects sockets to that it hands over: it
// bears no mark, so that the text of what is sent tells.
var (
	Neutral4 = netip.MustParseAddrPort("198.19.0.1:443")
	Neutral6 = netip.MustParseAddrPort("[2001:db8:1::1]:443")
)

// handed are sockets that an accomplice outside made, in the host's network.
func handed() []Technique {
	given := func(name, how string, r Request, use func(a *attempt, fd int) error) Technique {
		family := "4"
		if r.Domain == unix.AF_INET6 {
			family = "6"
		}
		r.Want = WantSocket
		return Technique{Name: name, Family: family, How: how, Phase: PhaseMany, run: func(a *attempt) error {
			_, err := ask(a.Outside, r, func(fd int) error { return use(a, fd) })
			return err
		}}
	}
	say := func(a *attempt, fd int) error { return a.say(fd) }
	return []Technique{
		given("handed stream", "a socket made outside, connected inside", Request{Domain: unix.AF_INET, Kind: unix.SOCK_STREAM}, func(a *attempt, fd int) error {
			if err := connect(fd, a.to4()); err != nil {
				return err
			}
			return a.say(fd)
		}),
		given("handed datagram", "a socket made outside, sendto inside", Request{Domain: unix.AF_INET6, Kind: unix.SOCK_DGRAM}, func(a *attempt, fd int) error {
			return step("sendto", unix.Sendto(fd, a.text, 0, sockaddr(a.to6())))
		}),
		given("handed connected stream", "a socket made and connected outside", Request{Domain: unix.AF_INET, Kind: unix.SOCK_STREAM, To: Neutral4}, say),
		given("handed connected datagram", "a socket made and connected outside", Request{Domain: unix.AF_INET6, Kind: unix.SOCK_DGRAM, To: Neutral6}, say),
		given("handed reconnected", "a socket made and connected outside, sendto elsewhere inside", Request{Domain: unix.AF_INET, Kind: unix.SOCK_DGRAM, To: Neutral4}, func(a *attempt, fd int) error {
			return step("sendto", unix.Sendto(fd, a.text, 0, sockaddr(a.to4())))
		}),
		given("handed raw", "a raw socket made outside", Request{Domain: unix.AF_INET, Kind: unix.SOCK_RAW, Proto: protoExperiment}, func(a *attempt, fd int) error {
			return step("sendto", unix.Sendto(fd, a.text, 0, sockaddr(netip.AddrPortFrom(a.Addr4(), 0))))
		}),
		{Name: "abstract socket", How: "a unix socket of the host, in the abstract space", Needs: "the host's network", Phase: PhaseMany, run: func(a *attempt) error {
			c, err := net.Dial("unix", Abstract)
			if err != nil {
				return step("connect", err)
			}
			defer c.Close()
			_, err = c.Write(a.text)
			return step("send", err)
		}},
	}
}

// Abstract is the host's abstract socket that the accomplice listens on.
const Abstract = "@egw-adversary"
