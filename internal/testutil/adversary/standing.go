package adversary

import (
	"net"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// standings hold on to something from before the mode changed, and use it
// after.
func standings() []Technique {
	hold := func(name, how, needs, capability string, family int, kind, proto int, open, use func(a *attempt, fd int) error) Technique {
		word := map[int]string{unix.AF_INET: "4", unix.AF_INET6: "6"}[family]
		return Technique{
			Name: "standing " + name, Family: word, How: how, Needs: needs, Cap: capability, Phase: PhaseStanding,
			run: func(a *attempt) error {
				return socket(family, kind, proto, func(fd int) error {
					if err := open(a, fd); err != nil {
						return err
					}
					a.hold()
					return use(a, fd)
				})
			},
		}
	}
	connected := func(to netip.AddrPort) func(*attempt, int) error {
		return func(_ *attempt, fd int) error { return connect(fd, to) }
	}
	say := func(a *attempt, fd int) error { return a.say(fd) }
	nothing := func(*attempt, int) error { return nil }
	four, six := connected(Neutral4), connected(Neutral6)
	const in, in6, stream, dgram = unix.AF_INET, unix.AF_INET6, unix.SOCK_STREAM, unix.SOCK_DGRAM
	return []Technique{
		hold("stream", "a TCP connection made before", "", "", in, stream, 0, four, say),
		hold("stream", "a TCP connection made before", "", "", in6, stream, 0, six, say),
		hold("multipath", "an MPTCP connection made before", "MPTCP", "", in, stream, unix.IPPROTO_MPTCP, four, say),
		hold("sendfile", "sendfile on a TCP connection made before", "", "", in, stream, 0, four, sendFile),
		hold("splice", "splice on a TCP connection made before", "", "", in, stream, 0, four, spliceTo),
		hold("zero copy", "MSG_ZEROCOPY on a TCP connection made before", "", "", in, stream, 0, four, zeroCopy),
		hold("urgent", "MSG_OOB on a TCP connection made before", "", "", in, stream, 0, four, func(a *attempt, fd int) error {
			return step("send", unix.Sendto(fd, a.text, unix.MSG_OOB, nil))
		}),
		hold("datagram", "a UDP socket connected before", "", "", in, dgram, 0, four, say),
		hold("datagram", "a UDP socket connected before", "", "", in6, dgram, 0, six, say),
		hold("unconnected", "a UDP socket used before, sendto", "", "", in, dgram, 0, func(_ *attempt, fd int) error {
			return step("sendto", unix.Sendto(fd, []byte("-"), 0, sockaddr(Neutral4)))
		}, func(a *attempt, fd int) error {
			return step("sendto", unix.Sendto(fd, a.text, 0, sockaddr(a.to4())))
		}),
		hold("udplite", "a UDP-Lite socket connected before", "UDP-Lite", "", in, dgram, unix.IPPROTO_UDPLITE, four, say),
		hold("sctp", "an SCTP association made before", "SCTP", "", in, stream, unix.IPPROTO_SCTP, four, say),
		hold("raw", "a raw socket made before", "", "NET_RAW", in, unix.SOCK_RAW, protoExperiment, nothing, func(a *attempt, fd int) error {
			return step("sendto", unix.Sendto(fd, a.text, 0, sockaddr(netip.AddrPortFrom(a.Addr4(), 0))))
		}),
		hold("raw", "a raw socket made before", "", "NET_RAW", in6, unix.SOCK_RAW, protoExperiment, nothing, func(a *attempt, fd int) error {
			return step("sendto", unix.Sendto(fd, a.text, 0, sockaddr(netip.AddrPortFrom(a.Addr6(), 0))))
		}),
		hold("packet", "a packet socket made before", "", "NET_RAW", unix.AF_PACKET, dgram, 0, nothing, func(a *attempt, fd int) error {
			return a.frame("4", func(mac net.HardwareAddr, ip []byte) error {
				return step("sendto", unix.Sendto(fd, ip, 0, linkAddr(device, mac, etherType(ip))))
			})
		}),
		hold("forger", "a raw socket made before plays the destination, which is then answered", "", "NET_RAW", in, unix.SOCK_RAW, unix.IPPROTO_RAW, nothing, forgeOn),
	}
}

// barrier holds the techniques until all have opened what they need and the
// accomplice says go.
type barrier struct {
	opened sync.WaitGroup
	open   chan struct{}
}

// hold waits at the barrier.
func (a *attempt) hold() {
	a.arrive()
	<-a.barrier.open
}

// stand runs the techniques of PhaseStanding.
func stand(s Settings, out *lines) error {
	ways := All()
	controls := func(t Technique) bool { return t.Phase == PhaseFirst }
	together(s, ways, pick(ways, controls), out)
	b := &barrier{open: make(chan struct{})}
	s.barrier = b
	numbers := pick(ways, func(t Technique) bool { return t.Phase == PhaseStanding })
	b.opened.Add(len(numbers))
	ends := make(chan struct{})
	go func() {
		defer close(ends)
		together(s, ways, numbers, out)
	}()
	b.opened.Wait()
	err := await(s, WantPause)
	close(b.open)
	<-ends
	return err
}

func memory(a *attempt) (int, error) {
	fd, err := unix.MemfdCreate("egw", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, step("memfd_create", err)
	}
	if _, err := unix.Pwrite(fd, a.text, 0); err != nil {
		unix.Close(fd)
		return 0, step("pwrite", err)
	}
	return fd, nil
}

func sendFile(a *attempt, fd int) error {
	file, err := memory(a)
	if err != nil {
		return err
	}
	defer unix.Close(file)
	_, err = unix.Sendfile(fd, file, nil, len(a.text))
	return step("sendfile", err)
}

func spliceTo(a *attempt, fd int) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	if _, err := w.Write(a.text); err != nil {
		return err
	}
	_, err = unix.Splice(int(r.Fd()), nil, fd, nil, len(a.text), 0)
	return step("splice", err)
}

func zeroCopy(a *attempt, fd int) error {
	if err := apply(fd, []tweak{setInt(unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1)}); err != nil {
		return err
	}
	return step("send", unix.Sendto(fd, a.text, unix.MSG_ZEROCOPY, nil))
}

// forgeOn plays the destination by a raw socket that exists.
func forgeOn(a *attempt, raw int) error {
	own, err := a.own("4")
	if err != nil {
		return err
	}
	peer := a.to4()
	return socket(unix.AF_INET, unix.SOCK_DGRAM, 0, func(server int) error {
		if err := apply(server, []tweak{bindTo(anyAddr("4", a.Port()))}); err != nil {
			return err
		}
		datagram := udpPacket(peer.Addr(), own, peer.Port(), a.Port(), []byte("-"))
		packet := ipPacket(peer.Addr(), own, unix.IPPROTO_UDP, datagram)
		if err := unix.Sendto(raw, packet, 0, sockaddr(netip.AddrPortFrom(own, 0))); err != nil {
			return step("sendto itself", err)
		}
		return a.reply(server)
	})
}
