package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/world"
	"github.com/egresswarden/egresswarden/policy"
)

// Names of the link between the world's namespaces, whose end in the world plays
// the host's side of a container's link.
const containerSide, hostSide = "egwworld0", "egwhost0"

// walled is a fixture whose container is this process, in Host, behind a wall.
type walled struct {
	*fixture
	w     *world.World
	index int
}

func newWalled(t *testing.T, mode policy.Mode) *walled {
	t.Helper()
	f := &walled{fixture: newFixture(t, nil), w: world.New(t)}
	f.putPolicy(t, 1, portTable(), 1)
	f.manage(t, 1, State{Mode: mode, Slot: 1})
	t.Cleanup(closeKept)
	f.in(t, f.w.World, func() error {
		ifi, err := net.InterfaceByName(hostSide)
		if err != nil {
			return err
		}
		f.index = ifi.Index
		return f.WallDevice(ifi.Index)
	})
	if err := f.SetDevices(map[int]uint32{f.index: 1}); err != nil {
		t.Fatal(err)
	}
	return f
}

// portTable allows one port of one address in each family, and the way to Host itself.
func portTable() *policy.Table {
	var rules []policy.Rule
	for i, to := range []netip.Addr{allowed4, allowed6} {
		rules = append(rules, policy.Rule{
			ID: fmt.Sprintf("%08x", 100+i), Action: policy.ActionAllow, Prefix: netip.PrefixFrom(to, to.BitLen()),
			Ports: []policy.PortRange{{Proto: policy.ProtoTCP, First: 443, Last: 443}, {Proto: policy.ProtoUDP, First: 443, Last: 443}},
		})
	}
	t, err := policy.Compile(rules, time.Now())
	if err != nil {
		panic(err)
	}
	return t
}

func (f *walled) in(t *testing.T, n *world.Namespace, fn func() error) {
	t.Helper()
	if err := n.Do(fn); err != nil {
		t.Fatal(err)
	}
}

// becomes waits until the container's decisions of a verdict are that many.
func (f *walled) becomes(t *testing.T, what string, of func(Counters) uint64, want uint64) {
	t.Helper()
	testutil.Eventually(t, what, func() error {
		c, err := f.Counters(1)
		if err == nil && of(c) != want {
			err = fmt.Errorf("%+v, want %d", c, want)
		}
		return err
	})
}

func denied(c Counters) uint64        { return c.Deny }
func wouldBeDenied(c Counters) uint64 { return c.WouldDeny }

// frameSocket is a packet socket that the container made while it learned.
func (f *walled) frameSocket(t *testing.T) (fd int) {
	t.Helper()
	f.in(t, f.w.Host, func() (err error) {
		fd, err = makeSocket(unix.AF_PACKET, unix.SOCK_DGRAM, 0)
		return err
	})
	return fd
}

// sendFrame writes a frame to a device of Host's.
func (f *walled) sendFrame(t *testing.T, fd int, dev string, kind uint16, text []byte) {
	t.Helper()
	f.in(t, f.w.Host, func() error {
		ifi, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		to := broadcast(ifi.Index, kind)
		if dev == "lo" {
			to.Addr = [8]byte{} // its own: TCP answers nobody else
		}
		return unix.Sendto(fd, text, 0, to)
	})
}

// broadcast is everybody on a device's link.
func broadcast(device int, kind uint16) *unix.SockaddrLinklayer {
	return &unix.SockaddrLinklayer{
		Protocol: networkOrder(kind), Ifindex: device, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	}
}

func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

func TestFramesOfPacketSocketsAreRefused(t *testing.T) {
	f := newWalled(t, policy.ModeLearn)
	fd := f.frameSocket(t)
	made, err := f.Counters(1) // where the kernel asks, the socket itself was told of
	if err != nil {
		t.Fatal(err)
	}
	datagram := frame4(world.HostAddr4, refused4, 443)
	const experiment = 0x88b5
	for _, owned := range []bool{true, false} {
		// A device that nobody was named for lets no packet socket pass either.
		owners := map[int]uint32{}
		if owned {
			owners[f.index] = 1
		}
		if err := f.SetDevices(owners); err != nil {
			t.Fatal(err)
		}
		for _, mode := range []policy.Mode{policy.ModeAllow, policy.ModeLearn, policy.ModeBlock} {
			f.putState(t, 1, State{Mode: mode, Slot: 1})
			f.sendFrame(t, fd, containerSide, unix.ETH_P_IP, datagram)
			f.sendFrame(t, fd, containerSide, experiment, []byte("hello"))
		}
	}
	f.becomes(t, "refused", denied, made.Deny+4)
	f.becomes(t, "told of while learning", wouldBeDenied, made.WouldDeny+4)
	f.newWindowEvents(t, map[string]Event{
		"frame of a packet socket": {Dst: refused4, DstPort: 443, Proto: policy.ProtoUDP},
		"frame of type 0x88b5":     {Proto: policy.ProtoOther},
	})
}

// newWindowEvents holds that the events of frames are those, each in both modes.
func (f *walled) newWindowEvents(t *testing.T, want map[string]Event) {
	t.Helper()
	if _, err := f.Sweep(); err != nil {
		t.Fatal(err)
	}
	n := map[string]uint64{}
	for _, e := range f.drain(t) {
		if e.Hook != HookFrame {
			continue
		}
		w, ok := want[e.Attempt]
		if !ok || e.Dst != w.Dst || e.DstPort != w.DstPort || e.Proto != w.Proto || e.Rule != policy.RuleSocket || e.PID != 0 {
			t.Errorf("event %+v", e)
		}
		n[fmt.Sprint(e.Attempt, e.Verdict)] += e.Count
	}
	for attempt := range want {
		for _, v := range []policy.Verdict{policy.VerdictDeny, policy.VerdictWouldDeny} {
			if got := n[fmt.Sprint(attempt, v)]; got != 2 {
				t.Errorf("%s: %d decisions of verdict %s in events, want 2", attempt, got, v)
			}
		}
	}
}

func TestAWorkloadThatKeepsRawSocketsHasItsFramesJudged(t *testing.T) {
	f := newWalled(t, policy.ModeLearn)
	fd := f.frameSocket(t)
	made, err := f.Counters(1)
	if err != nil {
		t.Fatal(err)
	}
	got := f.listenRaw(t, unix.AF_INET, unix.IPPROTO_UDP)
	f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1, Raw: true})
	f.sendFrame(t, fd, containerSide, unix.ETH_P_IP, frame4(world.HostAddr4, allowed4, 443))
	receive(t, got)
	for i, text := range [][]byte{frame4(world.HostAddr4, refused4, 443), frame4(world.HostAddr4, allowed4, 80)} {
		f.sendFrame(t, fd, containerSide, unix.ETH_P_IP, text)
		f.becomes(t, "what the policy refuses", denied, made.Deny+uint64(i)+1)
	}
}

// listenRaw gets what arrives in the world behind the wall. A packet socket would
// be shown what is dropped there.
func (f *walled) listenRaw(t *testing.T, family, proto int) (fd int) {
	t.Helper()
	tv := unix.NsecToTimeval(int64(time.Minute))
	f.in(t, f.w.World, func() (err error) {
		if fd, err = makeSocket(family, unix.SOCK_RAW, proto); err != nil {
			return err
		}
		return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	})
	return fd
}

func receive(t *testing.T, fd int) []byte {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		t.Fatalf("nothing arrived: %v", err)
	}
	return buf[:n]
}

// TestWhatSocketsMayPassesTheWall holds that the wall refuses nothing that the
// hooks of sockets allow: TCP, UDP connected or not, fragments, neighbours.
func TestWhatSocketsMayPassesTheWall(t *testing.T) {
	f := newWalled(t, policy.ModeBlock)
	for _, to := range []netip.Addr{allowed4, allowed6} {
		addr := netip.AddrPortFrom(to, 443)
		f.in(t, f.w.Host, func() error {
			for _, network := range []string{"tcp", "udp"} {
				c, err := net.Dial(network, addr.String())
				if err != nil {
					return err
				}
				err = turn(c)
				_ = c.Close()
				if err != nil {
					return fmt.Errorf("%s to %s: %w", network, to, err)
				}
			}
			c, err := net.ListenUDP("udp", nil)
			if err != nil {
				return err
			}
			defer c.Close()
			large := make([]byte, 9000)
			if _, err := c.WriteToUDPAddrPort(large, addr); err != nil {
				return err
			}
			if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				return err
			}
			n, err := c.Read(large)
			if err == nil && n != len(large) {
				err = fmt.Errorf("%d octets", n)
			}
			if err != nil {
				return fmt.Errorf("a datagram in fragments to %s: %w", to, err)
			}
			return nil
		})
	}
	if n := f.denials(t); n != 0 {
		t.Errorf("%d packets were refused: %+v", n, f.drain(t))
	}
}

// TestTheKernelAnswersWhoWasHeardOf lets the world ping the container, and speak to
// ports where nobody listens.
func TestTheKernelAnswersWhoWasHeardOf(t *testing.T) {
	f := newWalled(t, policy.ModeBlock)
	outside := newCgroup(t, f.cgroup) // this process is the world's too
	for _, c := range []struct {
		host  netip.Addr
		words []string
	}{
		{world.HostAddr4, []string{"closed", "tcp"}}, {world.HostAddr6, []string{"closed", "tcp"}},
		{world.HostAddr4, []string{"closed", "udp"}}, {world.HostAddr6, []string{"closed", "udp"}},
		{world.HostAddr4, []string{"ping", "0"}}, {world.HostAddr6, []string{"ping", "0"}},
		{world.HostAddr4, []string{"ping", "4000"}}, {world.HostAddr6, []string{"ping", "4000"}},
	} {
		f.in(t, f.w.World, func() error {
			cmd, out := startHelper(t, outside, append(c.words, c.host.String())...)
			if said := line(t, out); said != "answered" {
				t.Errorf("%v to %s: %s", c.words, c.host, said)
			}
			return cmd.Wait()
		})
	}
	if n := f.denials(t); n != 0 {
		t.Errorf("%d packets were refused: %+v", n, f.drain(t))
	}
}

// TestTheKernelAnswersNobodyElse writes to the container's own loopback device in the
// name of somebody outside, by a packet socket from before.
func TestTheKernelAnswersNobodyElse(t *testing.T) {
	f := newWalled(t, policy.ModeLearn)
	fd := f.frameSocket(t)
	f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	before := f.denials(t)
	ping := append(datagram4(refused4, world.HostAddr4, 0)[:20], echo(8)...)
	ping[9] = unix.IPPROTO_ICMP
	complete4(ping)
	f.sendFrame(t, fd, "lo", unix.ETH_P_IP, ping)
	f.becomes(t, "the kernel's answer is refused", denied, before+1)
	// A question to a closed port, as if a DNS server asked: the kernel resets.
	f.sendFrame(t, fd, "lo", unix.ETH_P_IP, segment4(refused4, world.HostAddr4, 53))
	f.becomes(t, "the kernel's reset is refused", denied, before+2)
	// Nobody was named for the link yet: an unknown container.
	if err := f.SetDevices(map[int]uint32{f.index: 0}); err != nil {
		t.Fatal(err)
	}
	f.sendFrame(t, fd, "lo", unix.ETH_P_IP, ping)
	testutil.Eventually(t, "the kernel's answer is refused to an unknown container", func() error {
		c, err := f.Counters(0)
		if err == nil && c.Deny == 0 {
			err = errors.New("not yet")
		}
		return err
	})
	for _, e := range f.drain(t) {
		if e.Hook == HookFrame && (e.Dst != refused4 || e.Proto != policy.ProtoICMP && e.Proto != policy.ProtoTCP) {
			t.Errorf("event %+v", e)
		}
	}
}

// TestWhatIsForwardedIsNoChatter has the container's kernel forward what looks like its
// own talk with neighbours and about groups, to somebody outside.
func TestWhatIsForwardedIsNoChatter(t *testing.T) {
	f := newWalled(t, policy.ModeLearn)
	fd := f.frameSocket(t)
	f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	before := f.denials(t)
	neighbour := append(make([]byte, 40), echo(135)...)
	neighbour[0], neighbour[5], neighbour[6], neighbour[7] = 0x60, byte(len(neighbour)-40), unix.IPPROTO_ICMPV6, 255
	copy(neighbour[8:], netip.MustParseAddr("2001:db8:d::67").AsSlice())
	copy(neighbour[24:], refused6.AsSlice())
	f.sendFrame(t, fd, "lo", unix.ETH_P_IPV6, neighbour)
	f.becomes(t, "a question about a neighbour is refused", denied, before+1)
	group := append(datagram4(forged4, refused4, 0)[:20], 0x16, 0, 0, 0, 224, 0, 0, 1)
	group[8], group[9] = 2, unix.IPPROTO_IGMP
	complete4(group)
	f.sendFrame(t, fd, "lo", unix.ETH_P_IP, group)
	f.becomes(t, "a report about a group is refused", denied, before+2)
	for _, e := range f.drain(t) {
		if e.Hook == HookFrame && e.Dst != refused6 && e.Dst != refused4 {
			t.Errorf("event %+v", e)
		}
	}
}

// segment4 is a SYN to port 9.
func segment4(src, dst netip.Addr, from uint16) []byte {
	b := append(datagram4(src, dst, 9)[:20], make([]byte, 20)...)
	b[9] = unix.IPPROTO_TCP
	complete4(b)
	tcp := b[20:]
	binary.BigEndian.PutUint16(tcp, from)
	binary.BigEndian.PutUint16(tcp[2:], 9)
	tcp[12], tcp[13] = 5<<4, 2
	pseudo := append([]byte{}, b[12:20]...)
	pseudo = append(append(pseudo, 0, unix.IPPROTO_TCP, 0, 20), tcp...)
	binary.BigEndian.PutUint16(tcp[16:], checksum(pseudo))
	return b
}

// frame4 is a datagram as it is on the wire.
func frame4(src, dst netip.Addr, port uint16) []byte {
	b := datagram4(src, dst, port)
	complete4(b)
	return b
}

// complete4 writes what the kernel writes for a raw socket, but not for a packet
// socket.
func complete4(b []byte) {
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[10:], 0)
	binary.BigEndian.PutUint16(b[10:], checksum(b[:20]))
}

func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// TestWhoLeftTheCgroupIsStillBehindTheWall sends by a process in the container's
// network that is in none of its cgroups.
func TestWhoLeftTheCgroupIsStillBehindTheWall(t *testing.T) {
	f := newWalled(t, policy.ModeAllow)
	outside := newCgroup(t, f.cgroup)
	got := map[bool]int{true: f.listenRaw(t, unix.AF_INET, unix.IPPROTO_UDP), false: f.listenRaw(t, unix.AF_INET6, unix.IPPROTO_UDP)}
	f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	var refusals uint64
	for _, c := range []struct {
		to     netip.Addr
		port   int
		passes bool
	}{
		{refused4, 443, false}, {allowed4, 443, true}, {allowed4, 80, false}, {refused4, 53, true},
		{refused6, 443, false}, {allowed6, 443, true}, {allowed6, 80, false}, {refused6, 53, true},
	} {
		f.in(t, f.w.Host, func() error {
			cmd, _ := startHelper(t, outside, "speak", netip.AddrPortFrom(c.to, uint16(c.port)).String(), "1")
			return cmd.Wait()
		})
		if c.passes {
			receive(t, got[c.to.Is4()])
		} else {
			refusals++
		}
		f.becomes(t, fmt.Sprintf("after %s:%d", c.to, c.port), denied, refusals)
	}
	f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1, NoDNS: true})
	f.in(t, f.w.Host, func() error {
		cmd, _ := startHelper(t, outside, "speak", netip.AddrPortFrom(refused4, 53).String(), "1")
		return cmd.Wait()
	})
	f.becomes(t, "the resolver's question, where it is refused", denied, refusals+1)
	// Learning stops nothing, and tells what block would.
	f.putState(t, 1, State{Mode: policy.ModeLearn, Slot: 1})
	f.in(t, f.w.Host, func() error {
		cmd, _ := startHelper(t, outside, "speak", netip.AddrPortFrom(refused4, 443).String(), "1")
		return cmd.Wait()
	})
	receive(t, got[true])
	f.becomes(t, "told of while learning", wouldBeDenied, 1)
}

func TestTheWallStaysWithoutItsProcessUntilDetached(t *testing.T) {
	f := newWalled(t, policy.ModeLearn)
	fd := f.frameSocket(t)
	f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	before := f.denials(t)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f.sendFrame(t, fd, containerSide, unix.ETH_P_IP, frame4(world.HostAddr4, refused4, 443))
	f.Gate = openGate(t, f.o)
	f.becomes(t, "refused without a process", denied, before+1)
	// Another process puts its own programs in the place of the former.
	for range 2 {
		f.in(t, f.w.World, func() error { return f.WallDevice(f.index) })
	}
	f.sendFrame(t, fd, containerSide, unix.ETH_P_IP, frame4(world.HostAddr4, refused4, 443))
	f.becomes(t, "refused by the next process", denied, before+2)
	f.in(t, f.w.World, func() error {
		if on, err := Walled(f.o.PinDir); err != nil || !on[f.index] || len(on) != 1 {
			t.Errorf("walled: %v, %v; want device %d", on, err, f.index)
		}
		return nil
	})
	if err := f.UnwallGone(map[int]bool{f.index: true}); err != nil {
		t.Fatal(err)
	}
	pins := filepath.Join(f.dir, wallsDir)
	if left, err := os.ReadDir(pins); err != nil || len(left) != 2 {
		t.Errorf("pins of a device that is there: %v, %v", left, err)
	}
	f.in(t, f.w.World, func() error { _, err := Detach(f.o.PinDir); return err })
	got := f.listenRaw(t, unix.AF_INET, unix.IPPROTO_UDP)
	f.sendFrame(t, fd, containerSide, unix.ETH_P_IP, frame4(world.HostAddr4, refused4, 443))
	receive(t, got)
}

func TestPinsOfDevicesThatAreGoneAreRemoved(t *testing.T) {
	f := newWalled(t, policy.ModeLearn)
	if err := f.UnwallGone(map[int]bool{}); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(f.dir, wallsDir))
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := f.SetDevices(map[int]uint32{1: 1 << 20}); !errors.Is(err, ErrRange) {
		t.Errorf("a device of a container that cannot be: %v, want ErrRange", err)
	}
}

// TestGroupsAreJudgedAsDestinations has the container join groups, whose addresses its
// kernel reports to the link.
func TestGroupsAreJudgedAsDestinations(t *testing.T) {
	f := newWalled(t, policy.ModeAllow)
	reports := f.listenRaw(t, unix.AF_INET, unix.IPPROTO_IGMP)
	f.in(t, f.w.World, func() error { // the group of those who listen to reports
		return unix.SetsockoptIPMreqn(reports, unix.SOL_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: [4]byte{224, 0, 0, 22}, Ifindex: int32(f.index)})
	})
	fine4, fine6 := netip.MustParseAddr("239.1.2.3"), netip.MustParseAddr("ff15::7")
	f.putPolicy(t, 1, table(fine4.String()+"/32", "239.1.2.4/32", fine6.String()+"/128"), 1)
	f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	var fd int
	f.in(t, f.w.Host, func() (err error) {
		fd, err = makeSocket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
		return err
	})
	join := func(group netip.Addr) {
		t.Helper()
		f.in(t, f.w.Host, func() error {
			ifi, err := net.InterfaceByName(containerSide)
			if err != nil {
				return err
			}
			if group.Is4() {
				return unix.SetsockoptIPMreqn(fd, unix.SOL_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(ifi.Index)})
			}
			return unix.SetsockoptIPv6Mreq(fd, unix.SOL_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(ifi.Index)})
		})
	}
	join(fine4)
	for {
		if report := receive(t, reports); bytes.Contains(report, fine4.AsSlice()) {
			break
		}
	}
	join(fine6)
	join(netip.MustParseAddr("ff02::1:ff12:3456")) // as an address of its own would
	for _, group := range []netip.Addr{netip.MustParseAddr("239.9.9.9"), netip.MustParseAddr("ff15::99")} {
		join(group)
		testutil.Eventually(t, "the report of "+group.String()+" is refused", func() error {
			all := f.drain(t)
			for _, e := range all {
				// A report of several that are not ordinary is refused as a whole.
				whole := e.Rule == policy.RuleOption
				if e.Hook != HookFrame || e.Verdict != policy.VerdictDeny || e.Dst != group && !whole {
					t.Errorf("event %+v", e)
				}
			}
			if len(all) == 0 {
				return errors.New("no event")
			}
			f.newWindow(t)
			return nil
		})
	}
}

// TestWantedSendersAreNoMessage joins a group that may be joined, from somebody whose
// address could say something. No other report is on its way then that is refused.
func TestWantedSendersAreNoMessage(t *testing.T) {
	for name, group := range map[string]string{"a group that is allowed": "239.1.2.4", "an ordinary group": "224.0.0.106"} {
		t.Run(name, func(t *testing.T) {
			f := newWalled(t, policy.ModeBlock)
			f.putPolicy(t, 1, table(group+"/32"), 1)
			f.in(t, f.w.Host, func() error {
				fd, err := makeSocket(unix.AF_INET, unix.SOCK_DGRAM, 0)
				if err != nil {
					return err
				}
				g, own, sender := netip.MustParseAddr(group).As4(), world.HostAddr4.As4(), refused4.As4()
				return unix.SetsockoptString(fd, unix.SOL_IP, unix.IP_ADD_SOURCE_MEMBERSHIP, string(g[:])+string(own[:])+string(sender[:]))
			})
			testutil.Eventually(t, "the report is refused", func() error {
				if f.denials(t) == 0 {
					return errors.New("not yet")
				}
				return nil
			})
		})
	}
}

// TestTheEngineWorksInAContainersNetwork holds that sockets of no container's may
// announce addresses there, and that a link of nobody's carries what an image is built
// with.
func TestTheEngineWorksInAContainersNetwork(t *testing.T) {
	f := newWalled(t, policy.ModeAllow)
	outside := newCgroup(t, f.cgroup)
	got := f.listenRaw(t, unix.AF_INET, unix.IPPROTO_UDP)
	f.putState(t, 1, State{Mode: policy.ModeBlock, Slot: 1})
	speak := func(words ...string) {
		t.Helper()
		f.in(t, f.w.Host, func() error {
			cmd, _ := startHelper(t, outside, words...)
			return cmd.Wait()
		})
	}
	speak("frame", containerSide, fmt.Sprint(unix.ETH_P_ARP))
	if err := f.SetDevices(map[int]uint32{f.index: 0}); err != nil {
		t.Fatal(err)
	}
	speak("speak", netip.AddrPortFrom(refused4, 443).String(), "1")
	receive(t, got)
	if n := f.denials(t); n != 0 {
		t.Errorf("%d packets were refused: %+v", n, f.drain(t))
	}
	if err := f.SetDevices(map[int]uint32{f.index: 1}); err != nil {
		t.Fatal(err)
	}
	speak("frame", containerSide, fmt.Sprint(0x88b5))
	f.becomes(t, "another frame is refused", denied, 1)
}
