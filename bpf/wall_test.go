package bpf

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/internal/testutil/world"
	"github.com/egresswarden/egresswarden/policy"
)

func TestWhoBorrowedAnAddressAnswersNobodyOnceBlocked(t *testing.T) {
	f := newFixture(t, nil)
	f.manage(t, 1, State{Mode: policy.ModeLearn, HostNetwork: true})
	if err := lenders[0].set(t); err != nil {
		t.Fatal(err)
	}
	f.putState(t, 1, State{Mode: policy.ModeBlock, HostNetwork: true})
	s := f.serve(t, "udp4", "127.0.0.1:0")
	if peer := s.hear(t, "127.0.0.1", 1); s.answers(t, peer) {
		t.Error("a peer that may be of the container's own making is answered")
	}
	if err := f.PutContainer(strings.Repeat("ab", 32), 1); err != nil {
		t.Fatal(err)
	}
	if peer := s.hear(t, "127.0.0.1", 1); !s.answers(t, peer) {
		t.Error("the next container of the index suffers from the former")
	}
}

func TestAnIPv4CompatibleSourceIsNoPeer(t *testing.T) {
	f := newFixture(t, nil)
	f.manage(t, 1, State{Mode: policy.ModeLearn, HostNetwork: true})
	for _, from := range []string{"::203.0.113.9", "203.0.113.9"} {
		a, err := f.Judge(1, netip.MustParseAddr(from), policy.ProtoUDP, 53)
		if err != nil || a.Verdict != policy.VerdictWouldDeny {
			t.Errorf("%s: %v, %v", from, a, err)
		}
	}
}

// TestLoopbackDoesNotLeave sends to a loopback address by way of a network
// device, as options and control messages allow without any privilege.
func TestLoopbackDoesNotLeave(t *testing.T) {
	w := world.New(t)
	f := newFixture(t, nil)
	f.manage(t, 1, State{Mode: policy.ModeAllow})
	ways := map[string]func(fd, device int, name string) error{
		"bound to the device": func(fd, _ int, name string) error {
			if err := unix.BindToDevice(fd, name); err != nil {
				return err
			}
			return unix.Sendto(fd, []byte{1}, 0, loopbackSink)
		},
		"by a control message": func(fd, device int, _ string) error {
			oob := unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(device)})
			return unix.Sendmsg(fd, []byte{1}, oob, loopbackSink, 0)
		},
	}
	for name, way := range ways {
		for _, mode := range []policy.Mode{policy.ModeAllow, policy.ModeBlock} {
			seen := w.Capture(t, netip.MustParsePrefix("127.0.0.0/8")) // a packet socket, not for the blocked
			f.putState(t, 1, State{Mode: mode})
			err := sendFrom(t, w, way)
			f.putState(t, 1, State{Mode: policy.ModeAllow}) // for the capture's own marker
			arrived := len(seen.Seen(t)) > 0
			t.Logf("%s, %s: arrived %v, %v", name, mode, arrived, err)
			switch mode {
			case policy.ModeAllow:
				if !arrived || err != nil {
					t.Errorf("%s: the way does not work (%v), so that the test shows nothing", name, err)
				}
			case policy.ModeBlock:
				if arrived || !errors.Is(err, unix.EPERM) {
					t.Errorf("%s: %v, and it arrived: %v; want EPERM and nothing", name, err, arrived)
				}
			}
		}
	}
	f.putState(t, 1, State{Mode: policy.ModeBlock})
	plain := func(fd, _ int, _ string) error { return unix.Sendto(fd, []byte{1}, 0, loopbackSink) }
	if err := sendFrom(t, w, plain); err != nil {
		t.Errorf("ordinary loopback: %v", err)
	}
}

var loopbackSink = &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 5}}

// sendFrom runs a way of sending in the world's host namespace.
func sendFrom(t *testing.T, w *world.World, way func(fd, device int, name string) error) error {
	t.Helper()
	const name = "egwworld0"
	var sent error
	err := w.Host.Do(func() error {
		fd, err := udpSocket(unix.AF_INET)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		req, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
			return err
		}
		sent = way(fd, int(req.Uint32()), name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sent
}
