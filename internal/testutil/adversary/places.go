package adversary

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// places are destinations that are not like others. Where the address is
// shared the port tells whose it is.
func places() []Technique {
	at := func(name, family, how string, to func(*attempt) netip.Addr) []Technique {
		needs := ""
		if family == "local" {
			needs = "nothing outside has it"
		}
		return []Technique{
			{Name: "tcp " + name, Family: family, How: how, Needs: needs, Phase: PhaseMany, run: func(a *attempt) error {
				return a.stream(0, a.at(to(a)))
			}},
			{Name: "udp " + name, Family: family, How: how, Needs: needs, Phase: PhaseMany, run: func(a *attempt) error {
				return a.send(message{to: a.at(to(a))})
			}},
		}
	}
	fixed := func(text string) func(*attempt) netip.Addr {
		ip := netip.MustParseAddr(text)
		return func(*attempt) netip.Addr { return ip }
	}
	marked := func(prefix string, at int) func(*attempt) netip.Addr {
		ip := netip.MustParseAddr(prefix)
		return func(a *attempt) netip.Addr { return a.in(ip, at) }
	}
	return many(
		at("compatible", "6", "::a.b.c.d", marked("::", 12)),
		at("6to4", "6", "2002:a.b.c.d::1", marked("2002::1", 2)),
		at("nat64", "6", "64:ff9b::a.b.c.d", marked("64:ff9b::", 12)),
		at("nat64 local", "6", "64:ff9b:1::a.b.c.d", marked("64:ff9b:1::", 12)),
		at("teredo", "6", "2001:0:a.b.c.d::", marked("2001::1", 4)),
		at("isatap", "6", "an interface identifier 0:5efe:a.b.c.d", marked("2001:db8::5efe:0:0", 12)),
		at("translated", "6", "::ffff:0:a.b.c.d", marked("::ffff:0:0:0", 12)),
		at("zero", "local", "0.0.0.0", fixed("0.0.0.0")),
		at("metadata", "4", "169.254.169.254", fixed("169.254.169.254")),
		at("metadata", "6", "fd00:ec2::254", fixed("fd00:ec2::254")),
		at("gateway", "4", "the bridge's address", func(a *attempt) netip.Addr { return a.Gateway4 }),
		at("gateway", "6", "the bridge's address", func(a *attempt) netip.Addr { return a.Gateway6 }),
		at("link-local gateway", "6", "the bridge's fe80::1%eth0", fixed("fe80::1%"+device)),
		at("neighbour", "4", "another container", func(a *attempt) netip.Addr { return a.Neighbour4 }),
		at("neighbour", "6", "another container", func(a *attempt) netip.Addr { return a.Neighbour6 }),
		at("host", "4", "the host by another address of its own, as for published ports", func(a *attempt) netip.Addr { return a.Host4 }),
		groups(),
	)
}

// groups are multicast and broadcast, for which there is only UDP, and joining
// a group, which tells the routers of it.
func groups() []Technique {
	udp := func(name, family, how, to string, prepare ...tweak) Technique {
		return Technique{Name: name, Family: family, How: how, Phase: PhaseMany, run: func(a *attempt) error {
			return a.send(message{to: a.at(netip.MustParseAddr(to)), prepare: prepare})
		}}
	}
	broadcast := setInt(unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
	return []Technique{
		udp("multicast link", "4", "224.0.0.251, as mDNS", "224.0.0.251"),
		udp("multicast", "4", "239.1.2.3", "239.1.2.3"),
		udp("multicast link", "6", "ff02::1%eth0", "ff02::1%"+device),
		udp("multicast", "6", "ff15::7%eth0", "ff15::7%"+device),
		udp("broadcast", "4", "255.255.255.255", "255.255.255.255", broadcast),
		udp("broadcast subnet", "4", "the subnet's", "10.203.100.255", broadcast),
		{Name: "igmp join", Family: "4", How: "joining a group whose address is the message", Phase: PhaseMany, run: func(a *attempt) error {
			group := a.Group4().As4()
			return a.joined(unix.AF_INET, setBytes(unix.SOL_IP, unix.IP_ADD_MEMBERSHIP,
				append(append(group[:], 0, 0, 0, 0), word(uint32(ifindex(device)))...)))
		}},
		{Name: "igmp source", Family: "4", How: "joining a group from a source whose address is the message", Phase: PhaseMany, run: func(a *attempt) error {
			own, err := a.own("4")
			if err != nil {
				return err
			}
			request := []byte{232, 1, 2, 3}
			request = append(request, own.AsSlice()...)
			return a.joined(unix.AF_INET, setBytes(unix.SOL_IP, unix.IP_ADD_SOURCE_MEMBERSHIP,
				append(request, a.Addr4().AsSlice()...)))
		}},
		{Name: "mld join", Family: "6", How: "joining a group whose address is the message", Phase: PhaseMany, run: func(a *attempt) error {
			group := a.in(netip.MustParseAddr("ff15::"), 12)
			return a.joined(unix.AF_INET6, setBytes(unix.SOL_IPV6, unix.IPV6_ADD_MEMBERSHIP,
				append(group.AsSlice(), word(uint32(ifindex(device)))...)))
		}},
	}
}

// joined is a member until the report was seen, which comes a moment later and
// does not if the group was left before.
func (a *attempt) joined(domain int, join tweak) error {
	return socket(domain, unix.SOCK_DGRAM, 0, func(fd int) error {
		if err := join(fd); err != nil {
			return err
		}
		_, err := ask(a.Outside, Request{Want: WantArrival, Number: a.Number}, nil)
		return err
	})
}
