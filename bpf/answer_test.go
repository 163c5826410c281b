package bpf

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/internal/testutil/world"
	"github.com/egresswarden/egresswarden/policy"
)

// answerTable allows the test's own clients, which this process is too, to reach
// its servers; what a server says goes to the world's end, which is refused.
func answerTable() *policy.Table {
	return table(world.HostAddr4.String()+"/32", world.HostAddr6.String()+"/128", allowed4.String()+"/32", allowed6.String()+"/128")
}

// listenIn listens in the world's host namespace.
func listenIn(t *testing.T, w *world.World, at string) net.Listener {
	t.Helper()
	var l net.Listener
	err := w.Host.Do(func() (err error) {
		l, err = net.Listen("tcp", at)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// accepted is a connection from the world to a listener in Host: both its ends.
type accepted struct{ server, client net.Conn }

func (w dialer) accept(t *testing.T, l net.Listener) accepted {
	t.Helper()
	got := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			close(got)
			return
		}
		got <- c
	}()
	a := accepted{client: w.dial(t, l.Addr().(*net.TCPAddr))}
	a.server = <-got
	if a.server == nil {
		t.Fatal("not accepted")
	}
	t.Cleanup(func() { _ = a.server.Close(); _ = a.client.Close() })
	return a
}

type dialer struct{ *world.World }

func (w dialer) dial(t *testing.T, to *net.TCPAddr) net.Conn {
	t.Helper()
	addr := netip.AddrPortFrom(world.HostAddr4, uint16(to.Port))
	if to.IP.To4() == nil {
		addr = netip.AddrPortFrom(world.HostAddr6, uint16(to.Port))
	}
	var c net.Conn
	err := w.World.World.Do(func() (err error) {
		d := net.Dialer{Timeout: time.Minute}
		c, err = d.DialContext(t.Context(), "tcp", addr.String())
		return err
	})
	if err != nil {
		t.Fatalf("dial %s: %v", addr, err)
	}
	return c
}

// speaks reports whether what the server's end says arrives.
func (a accepted) speaks(t *testing.T) bool {
	t.Helper()
	if _, err := a.server.Write([]byte("hello")); err != nil {
		return false
	}
	if err := a.client.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	_, err := io.ReadFull(a.client, make([]byte, 5))
	return err == nil
}

// silent holds that the wall refuses what a connection's end says.
func (f *fixture) silent(t *testing.T, c net.Conn) bool {
	t.Helper()
	before := f.denials(t)
	if _, err := c.Write([]byte("hello")); err != nil && !errors.Is(err, unix.EPERM) {
		t.Fatalf("the wall's refusal shows as %v", err)
	}
	return f.denials(t) > before
}

func (f *fixture) denials(t *testing.T) uint64 {
	t.Helper()
	c, err := f.Counters(1)
	if err != nil {
		t.Fatal(err)
	}
	return c.Deny
}

func TestAcceptedConnectionsAreAnswered(t *testing.T) {
	w := dialer{world.New(t)}
	f := newFixture(t, nil)
	f.putPolicy(t, 1, answerTable(), 1)
	f.manage(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	for _, at := range []string{"0.0.0.0:0", "[::]:0"} {
		for _, mode := range []policy.Mode{policy.ModeAllow, policy.ModeLearn, policy.ModeBlock} {
			f.putState(t, 1, State{Mode: mode, Slot: 1})
			l := listenIn(t, w.World, at)
			first, second := w.accept(t, l), w.accept(t, l)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
			if !first.speaks(t) {
				t.Errorf("%s: accepted in mode %s: not answered once blocked", at, mode)
			}
			f.putPolicy(t, 1, answerTable(), 2)
			if !second.speaks(t) || !first.speaks(t) {
				t.Errorf("%s: accepted in mode %s: not answered after a change of the policy", at, mode)
			}
		}
	}
	if n := f.denials(t); n != 0 {
		t.Errorf("%d packets were refused", n)
	}
}

func TestConnectionsFromBeforeTheGateAreAdopted(t *testing.T) {
	w := dialer{world.New(t)}
	f := newFixture(t, nil)
	f.putPolicy(t, 1, answerTable(), 1)
	f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	cgroup := newCgroup(t, f.cgroup) // one that the gate does not know yet
	enter(t, cgroup)
	l, gone := listenIn(t, w.World, "0.0.0.0:0"), listenIn(t, w.World, "0.0.0.0:0")
	stands, orphan := w.accept(t, l), w.accept(t, gone)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	out := dialOut(t, w.World, refused4)
	fine := dialOut(t, w.World, allowed4)
	id, err := CgroupID(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.PutCgroup(id, 1); err != nil {
		t.Fatal(err)
	}
	if !stands.speaks(t) {
		t.Error("accepted before: not answered, though its listener stands")
	}
	if !f.silent(t, orphan.server) {
		t.Error("nobody listens at its port any more, but it is taken for accepted")
	}
	if !f.silent(t, out) {
		t.Error("connected before to what the policy refuses: goes on")
	}
	if f.silent(t, fine) {
		t.Error("connected before to what the policy allows: refused")
	}
}

func dialOut(t *testing.T, w *world.World, to netip.Addr) net.Conn {
	t.Helper()
	var c net.Conn
	err := w.Host.Do(func() (err error) {
		c, err = net.Dial("tcp", netip.AddrPortFrom(to, 443).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestListeningAtItsPortMakesNoConnectionAccepted is a process that plans ahead:
// it connects while learning, and listens at the same port once blocked.
func TestListeningAtItsPortMakesNoConnectionAccepted(t *testing.T) {
	w := world.New(t)
	f := newFixture(t, nil)
	f.putPolicy(t, 1, answerTable(), 1)
	f.manage(t, 1, State{Mode: policy.ModeLearn, Slot: 1})
	for i, mode := range []policy.Mode{policy.ModeLearn, policy.ModeAllow, policy.ModeLearn} {
		if i == 1 { // till now one that the gate met late, from here on one whose birth it saw
			if err := f.PutContainer(strings.Repeat("ab", 32), 1); err != nil {
				t.Fatal(err)
			}
		}
		f.putState(t, 1, State{Mode: mode, Slot: 1})
		var fd, listener int
		err := w.Host.Do(func() (err error) {
			if fd, err = reusing(); err != nil {
				return err
			}
			if err := unix.Connect(fd, sockaddr(refused4, 443)); err != nil {
				return err
			}
			f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
			own, err := unix.Getsockname(fd)
			if err != nil {
				return err
			}
			if listener, err = reusing(); err != nil {
				return err
			}
			if err := unix.Bind(listener, own); err != nil {
				return err
			}
			return unix.Listen(listener, 1)
		})
		if err != nil {
			t.Fatal(err)
		}
		before := f.denials(t)
		if _, err := unix.Write(fd, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if f.denials(t) == before {
			t.Errorf("connected in mode %s: passes for accepted", mode)
		}
		_, _ = unix.Close(fd), unix.Close(listener)
	}
}

func reusing() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	return fd, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
}

// TestARevokedDestinationIsCut holds that a socket's memory ends with the policy
// that it is from.
func TestARevokedDestinationIsCut(t *testing.T) {
	w := world.New(t)
	f := newFixture(t, nil)
	open, closed := table(refused4.String()+"/32", refused6.String()+"/128"), table()
	f.putPolicy(t, 1, open, 1)
	f.manage(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	for _, to := range []netip.Addr{refused4, refused6} {
		c := dialOut(t, w, to)
		if f.silent(t, c) {
			t.Errorf("%s: refused while allowed", to)
		}
		for _, change := range []struct {
			name     string
			to, back func()
		}{
			{"the policy", func() { f.putPolicy(t, 1, closed, 2) }, func() { f.putPolicy(t, 1, open, 3) }},
			{"the slot", func() { f.putState(t, 1, State{Mode: policy.ModeBlock}) }, func() { f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1}) }},
		} {
			change.to()
			if !f.silent(t, c) {
				t.Errorf("%s: goes on after %s changed", to, change.name)
			}
			change.back()
			if f.silent(t, c) {
				t.Errorf("%s: refused though allowed again, after %s", to, change.name)
			}
		}
	}
}

// TestAConnectedUDPServerGoesOn holds that who connected to a peer that spoke
// first answers it for good, though it never learns of its address again.
func TestAConnectedUDPServerGoesOn(t *testing.T) {
	f := newFixture(t, nil)
	f.putPolicy(t, 1, table(), 1)
	for _, mode := range []policy.Mode{policy.ModeLearn, policy.ModeBlock} {
		f.manage(t, 1, State{Mode: mode, Slot: 1, HostNetwork: true})
		s := f.serve(t, "udp4", "127.0.0.1:0")
		peer := s.hear(t, "127.0.0.1", 1)
		c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(peer))
		if err != nil {
			t.Fatal(err)
		}
		f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1, HostNetwork: true})
		f.age(t, 2*time.Minute)
		f.putPolicy(t, 1, table(), 2)
		if _, err := c.Write([]byte("x")); errors.Is(err, unix.EPERM) {
			t.Errorf("connected in mode %s: %v", mode, err)
		}
		_ = c.Close()
		if got := dial("udp4", peer.String()); got != unix.EPERM {
			t.Errorf("a new socket to a peer long silent: %v, want EPERM", got)
		}
	}
}

// TestChangesDropNothing changes the policy a thousand times under a server and
// under streams that it allows.
func TestChangesDropNothing(t *testing.T) {
	const changes = 1000
	w := dialer{world.New(t)}
	f := newFixture(t, nil)
	f.putPolicy(t, 1, answerTable(), 1)
	f.manage(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	l := listenIn(t, w.World, "0.0.0.0:0")
	in := w.accept(t, l)
	go func() { _, _ = io.Copy(in.server, in.server) }()
	var udp net.Conn
	err := w.Host.Do(func() (err error) {
		udp, err = net.Dial("udp", netip.AddrPortFrom(allowed4, 443).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	var turns [3]atomic.Int64
	for i, c := range []net.Conn{in.client, dialOut(t, w.World, allowed4), udp} {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := turn(c); err != nil {
					t.Errorf("stream %d: %v", i, err)
					return
				}
				turns[i].Add(1)
			}
		})
	}
	for i := range uint64(changes) {
		f.putPolicy(t, 1, answerTable(), i)
		f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	}
	stop()
	wg.Wait()
	for i := range turns {
		if turns[i].Load() == 0 {
			t.Errorf("stream %d did nothing meanwhile", i)
		}
	}
	if n := f.denials(t); n != 0 {
		t.Errorf("%d packets were refused", n)
	}
	t.Logf("%d, %d and %d turns during %d changes", turns[0].Load(), turns[1].Load(), turns[2].Load(), 2*changes)
}

// turn is one request and its answer.
func turn(c net.Conn) error {
	if _, err := c.Write([]byte("ping")); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 4))
	return err
}

// TestWhatIsKeptGoesOn holds that a change can leave established connections alone,
// until one that does not.
func TestWhatIsKeptGoesOn(t *testing.T) {
	w := world.New(t)
	f := newFixture(t, nil)
	open, closed := table(refused4.String()+"/32", refused6.String()+"/128"), table()
	f.putPolicy(t, 1, open, 1)
	f.manage(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	for _, to := range []netip.Addr{refused4, refused6} {
		f.putPolicy(t, 1, open, 1)
		f.putState(t, 1, State{Mode: policy.ModeLearn, Slot: 1})
		learnt := dialOut(t, w, to)
		f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1, Keep: true})
		allowed := dialOut(t, w, to)
		if err := f.SetPolicyKeeping(1, closed, 2); err != nil {
			t.Fatal(err)
		}
		f.putState(t, 2, State{Mode: policy.ModeBlock, Slot: 2})
		f.putPolicy(t, 2, closed, 3) // another container's
		for name, c := range map[string]net.Conn{"the mode": learnt, "the policy": allowed} {
			if f.silent(t, c) {
				t.Errorf("%s: kept when %s changed, but refused", to, name)
			}
		}
		err := w.Host.Do(func() error {
			_, err := net.Dial("tcp", netip.AddrPortFrom(to, 443).String())
			return err
		})
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: a new connection: %v, want EPERM", to, err)
		}
		f.putPolicy(t, 1, closed, 4)
		for name, c := range map[string]net.Conn{"the mode": learnt, "the policy": allowed} {
			if !f.silent(t, c) {
				t.Errorf("%s: kept when %s changed, and goes on after a change that keeps nothing", to, name)
			}
		}
		f.putState(t, 2, State{Mode: policy.ModeLearn})
	}
}

// TestAnAnswerIsNotLedElsewhere has sockets that may answer their peer, whom the
// policy refuses, and leads an answer by a way of its own.
func TestAnAnswerIsNotLedElsewhere(t *testing.T) {
	w := world.New(t)
	f := newFixture(t, nil)
	f.putPolicy(t, 1, table(world.HostAddr4.String()+"/32"), 1)
	f.manage(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	t.Cleanup(closeKept)
	fd := heardOf(t, w)
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Fatalf("a plain answer: %v", err)
	}
	before := f.denials(t)
	if err := unix.Sendmsg(fd, []byte("x"), looseRouteMessage(), nil, 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("an answer by way of %s: %v, want EPERM", hop4, err)
	}
	if f.denials(t) != before+1 {
		t.Error("the refusal is not counted")
	}
}

// heardOf makes a UDP socket in Host that is connected to a peer in the world, which
// spoke first.
func heardOf(t *testing.T, w *world.World) (fd int) {
	t.Helper()
	err := w.Host.Do(func() (err error) {
		if fd, err = makeSocket(unix.AF_INET, unix.SOCK_DGRAM, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrInet4{Addr: world.HostAddr4.As4()})
	})
	if err != nil {
		t.Fatal(err)
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	err = w.World.Do(func() error {
		peer, err := makeSocket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		return errors.Join(unix.Bind(peer, &unix.SockaddrInet4{Addr: world.WorldAddr4.As4()}), unix.Sendto(peer, []byte("x"), 0, own))
	})
	if err != nil {
		t.Fatal(err)
	}
	_, from, err := unix.Recvfrom(fd, make([]byte, 8), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, from); err != nil {
		t.Fatal(err)
	}
	return fd
}
