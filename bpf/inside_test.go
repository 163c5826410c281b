package bpf

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/internal/testutil/world"
	"github.com/egresswarden/egresswarden/policy"
)

// question is a message of DNS for a name of so many octets, as it is sent.
func question(octets int) []byte {
	b := []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for octets > 0 {
		n := min(octets, 64)
		b = append(append(b, byte(n-1)), strings.Repeat("x", n-1)...)
		octets -= n
	}
	return append(b, 0, 0, 1, 0, 1)
}

func (f *fixture) names(t *testing.T) Names {
	t.Helper()
	n, err := f.Names(1)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestQuestionsToTheResolverAreCounted(t *testing.T) {
	f := newFixture(t, nil)
	f.manage(t, 1, State{Mode: policy.ModeAllow})
	udp := f.serve(t, "udp4", "127.0.0.11:0")
	ask := func(network, addr string, text []byte) {
		t.Helper()
		c, err := net.Dial(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	at := udp.LocalAddr().String()
	ask("udp4", at, question(40))
	if n := f.names(t); n != (Names{}) {
		t.Errorf("a container let alone: %+v", n)
	}
	for _, mode := range []policy.Mode{policy.ModeLearn, policy.ModeBlock} {
		f.putState(t, 1, State{Mode: mode})
		before := f.names(t)
		ask("udp4", at, question(40))
		ask("udp4", at, question(250))
		ask("udp4", at, question(9))
		want := Names{before.Questions + 3, before.Octets + 40 + 250 + 9 + 3*5, 250}
		if n := f.names(t); n != want {
			t.Errorf("%s: %+v, want %+v", mode, n, want)
		}
		want.Longest = 0
		if n := f.names(t); n != want {
			t.Errorf("%s: once more: %+v, want %+v", mode, n, want)
		}
	}
	t.Run("over TCP by segments with data", func(t *testing.T) {
		l, err := net.Listen("tcp4", "127.0.0.11:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		before := f.names(t)
		q := question(100)
		ask("tcp4", l.Addr().String(), append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...))
		if n, want := f.names(t), (Names{before.Questions + 1, before.Octets + 105, 100}); n != want {
			t.Errorf("%+v, want %+v", n, want)
		}
	})
	t.Run("other loopback not", func(t *testing.T) {
		other, before := f.serve(t, "udp4", "127.0.0.1:0"), f.names(t)
		ask("udp4", other.LocalAddr().String(), question(40))
		if n := f.names(t); n != before {
			t.Errorf("%+v, want %+v", n, before)
		}
	})
	t.Run("what is no question does no harm", func(t *testing.T) {
		f.names(t)
		ask("udp4", at, []byte("x"))
		ask("udp4", at, append(question(0)[:12], 0xff, 0xff))
		ask("udp4", at, append(make([]byte, 12), strings.Repeat("\x3f", 900)...))
		if n := f.names(t); n.Longest != 255 {
			t.Errorf("%+v, want a longest name of 255", n)
		}
	})
}

// TestTheContainerCannotPlayAPeer sends from a foreign address, which was
// borrowed while nothing forbade it, to a server of the container's own.
func TestTheContainerCannotPlayAPeer(t *testing.T) {
	w := world.New(t)
	f := newFixture(t, nil)
	f.manage(t, 1, State{Mode: policy.ModeAllow})
	for _, mode := range []policy.Mode{policy.ModeAllow, policy.ModeLearn, policy.ModeBlock} {
		f.putState(t, 1, State{Mode: policy.ModeAllow}) // the option is not noted
		var sent, answered error
		err := w.Host.Do(func() (err error) {
			sent, answered, err = f.playPeer(mode)
			return err
		})
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		t.Logf("%s: sent %v, answered %v", mode, sent, answered)
		switch mode {
		case policy.ModeAllow:
			if sent != nil || answered != nil {
				t.Errorf("the way does not work: %v, %v", sent, answered)
			}
		case policy.ModeLearn:
			if sent != nil || !errors.Is(answered, unix.EPERM) {
				t.Errorf("played while learning: %v; answered once blocked: %v, want EPERM", sent, answered)
			}
		case policy.ModeBlock:
			if !errors.Is(sent, unix.EPERM) {
				t.Errorf("played in block: %v, want EPERM", sent)
			}
			wantForged(t, f.drain(t))
		}
	}
}

// playPeer plays in the mode, and answers in block, or in allow.
func (f *fixture) playPeer(mode policy.Mode) (sent, answered, err error) {
	server, err := udpSocket(unix.AF_INET6)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(server)
	forger, err := udpSocket(unix.AF_INET6)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(forger)
	err = errors.Join(
		unix.SetsockoptInt(forger, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1),
		unix.Bind(forger, &unix.SockaddrInet6{Addr: foreign.Addr().As16(), Port: int(foreign.Port())}),
		unix.Bind(server, &unix.SockaddrInet6{}))
	if err != nil {
		return nil, nil, err
	}
	name, err := unix.Getsockname(server)
	if err != nil {
		return nil, nil, err
	}
	to := &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16(), Port: name.(*unix.SockaddrInet6).Port}
	if err := f.SetState(1, State{Mode: mode}); err != nil {
		return nil, nil, err
	}
	if sent = unix.Sendto(forger, []byte("-"), 0, to); sent != nil {
		return sent, nil, nil
	}
	_, from, err := unix.Recvfrom(server, make([]byte, 8), 0)
	if err != nil {
		return nil, nil, err
	}
	if mode == policy.ModeLearn {
		mode = policy.ModeBlock
	}
	if err := f.SetState(1, State{Mode: mode}); err != nil {
		return nil, nil, err
	}
	return nil, unix.Sendto(server, []byte("-"), 0, from), nil
}

// foreign belongs to the world, outside of the host.
var foreign = netip.MustParseAddrPort("[2001:db8:f::1]:53")

func wantForged(t *testing.T, events []Event) {
	t.Helper()
	n := 0
	for _, e := range events {
		if e.Hook != HookPacket {
			continue
		}
		n++
		if e.Verdict != policy.VerdictDeny || e.Dst != netip.IPv6Loopback() || e.Src != foreign.Addr() || e.Proto != policy.ProtoUDP {
			t.Errorf("event %+v", e)
		}
	}
	if n != 1 {
		t.Errorf("%d events of packets, want 1", n)
	}
}
