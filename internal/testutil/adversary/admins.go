package adversary

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// admins change the container's network, which takes NET_ADMIN.
func admins() []Technique {
	admin := func(name, family, how, needs string, run func(*attempt) error) Technique {
		return Technique{Name: "admin " + name, Family: family, How: how, Needs: needs, Cap: "NET_ADMIN", Phase: PhaseAdmin, run: run}
	}
	tunnel := func(name, module string, link func(a *attempt, l netlink.LinkAttrs) (netlink.Link, error)) Technique {
		return admin(name, "4", "what is allowed is routed into a tunnel to elsewhere", module, func(a *attempt) error {
			l := netlink.NewLinkAttrs()
			l.Name = "egwtun"
			made, err := link(a, l)
			if err != nil {
				return err
			}
			return a.throughTunnel(made)
		})
	}
	return []Technique{
		admin("neighbour entry", "4", "what is allowed is sent to another container's link address", "", neighbourEntry),
		admin("address", "4", "has the destination's own address, and is then answered", "", ownAddress),
		admin("own address", "4", "has the destination's own address, writes to itself there, and is then answered", "", answerOwn),
		tunnel("vxlan", "VXLAN", func(a *attempt, l netlink.LinkAttrs) (netlink.Link, error) {
			return &netlink.Vxlan{LinkAttrs: l, VxlanId: 7, Group: a.Addr4().AsSlice(), Port: 4789}, nil
		}),
		tunnel("ipip", "IPIP", func(a *attempt, l netlink.LinkAttrs) (netlink.Link, error) {
			own, err := a.own("4")
			return &netlink.Iptun{LinkAttrs: l, Local: own.AsSlice(), Remote: a.Addr4().AsSlice()}, err
		}),
		tunnel("gre", "GRE", func(a *attempt, l netlink.LinkAttrs) (netlink.Link, error) {
			own, err := a.own("4")
			return &netlink.Gretap{LinkAttrs: l, Local: own.AsSlice(), Remote: a.Addr4().AsSlice()}, err
		}),
		admin("segment routing", "6", "what is allowed is routed with an outer header to elsewhere", "seg6 encapsulation", segmentRoute),
		admin("ipsec", "4", "what is allowed is wrapped by xfrm, to elsewhere", "ESP", ipsec),
		admin("tun", "4", "a tun device brings an echo request from there: the kernel replies", "tun, and its device node", tun),
	}
}

func prefix(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

// throughTunnel sends to what is allowed with a route into the link.
func (a *attempt) throughTunnel(link netlink.Link) error {
	if err := netlink.LinkAdd(link); err != nil {
		return step("link add", err)
	}
	defer func() { _ = netlink.LinkDel(link) }()
	if err := netlink.LinkSetUp(link); err != nil {
		return step("link up", err)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: prefix(a.Allowed4.Addr()), Scope: netlink.SCOPE_LINK}
	if err := netlink.RouteAdd(route); err != nil {
		return step("route add", err)
	}
	// No question goes before, of which nobody would see the answer.
	peer := &netlink.Neigh{
		LinkIndex: link.Attrs().Index, IP: a.Allowed4.Addr().AsSlice(), State: netlink.NUD_PERMANENT,
		HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1},
	}
	if err := netlink.NeighSet(peer); err != nil && link.Type() != "ipip" {
		return step("neigh set", err)
	}
	return a.send(message{to: a.Allowed4})
}

func neighbourEntry(a *attempt) error {
	four := a.Neighbour4.As4()
	via := &netlink.Neigh{
		LinkIndex: ifindex(device), IP: a.Gateway4.AsSlice(), State: netlink.NUD_PERMANENT,
		HardwareAddr: net.HardwareAddr{0x02, 0x42, four[0], four[1], four[2], four[3]},
	}
	if err := netlink.NeighSet(via); err != nil {
		return step("neigh set", err)
	}
	defer func() { _ = netlink.NeighDel(via) }()
	return a.send(message{to: a.Allowed4})
}

// borrow gives the container the technique's destination as its own address,
// until it gives that up.
func (a *attempt) borrow(use func(giveUp func() error) error) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return step("find lo", err)
	}
	address := &netlink.Addr{IPNet: prefix(a.Addr4())}
	if err := netlink.AddrAdd(lo, address); err != nil {
		return step("address add", err)
	}
	defer func() { _ = netlink.AddrDel(lo, address) }()
	return use(func() error { return step("address del", netlink.AddrDel(lo, address)) })
}

// ownAddress is the destination for a moment.
func ownAddress(a *attempt) error {
	return a.borrow(func(giveUp func() error) error {
		return a.forgePeer("4", func(int) error { return nil }, giveUp)
	})
}

// answerOwn is as ownAddress, but nothing tells the datagram from an honest one.
func answerOwn(a *attempt) error {
	return a.borrow(func(giveUp func() error) error {
		return socket(unix.AF_INET, unix.SOCK_DGRAM, 0, func(server int) error {
			if err := apply(server, []tweak{bindTo(anyAddr("4", a.Port()))}); err != nil {
				return err
			}
			err := a.send(message{to: a.at(a.Addr4()), text: []byte("-"), prepare: []tweak{bindTo(a.to4())}})
			if err != nil {
				return err
			}
			return a.reply(server, giveUp)
		})
	})
}

func segmentRoute(a *attempt) error {
	route := &netlink.Route{
		LinkIndex: ifindex(device), Dst: prefix(a.Allowed6.Addr()), Gw: a.Gateway6.AsSlice(),
		Encap: &netlink.SEG6Encap{Mode: 1, Segments: []net.IP{a.Addr6().AsSlice()}},
	}
	if err := netlink.RouteAdd(route); err != nil {
		return step("route add", err)
	}
	defer func() { _ = netlink.RouteDel(route) }()
	return a.send(message{to: a.Allowed6})
}

func ipsec(a *attempt) error {
	own, err := a.own("4")
	if err != nil {
		return err
	}
	const spi, request = 7, 7
	key := []byte(strings.Repeat("k", 20))
	state := &netlink.XfrmState{
		Src: own.AsSlice(), Dst: a.Addr4().AsSlice(), Proto: netlink.XFRM_PROTO_ESP, Mode: netlink.XFRM_MODE_TUNNEL,
		Spi: spi, Reqid: request,
		Aead: &netlink.XfrmStateAlgo{Name: "rfc4106(gcm(aes))", Key: key, ICVLen: 64},
	}
	if err := netlink.XfrmStateAdd(state); err != nil {
		return step("xfrm state", err)
	}
	defer func() { _ = netlink.XfrmStateDel(state) }()
	policy := &netlink.XfrmPolicy{
		Src: prefix(own), Dst: prefix(a.Allowed4.Addr()), Dir: netlink.XFRM_DIR_OUT,
		Tmpls: []netlink.XfrmPolicyTmpl{{
			Src: state.Src, Dst: state.Dst, Proto: state.Proto, Mode: state.Mode, Spi: spi, Reqid: request,
		}},
	}
	if err := netlink.XfrmPolicyAdd(policy); err != nil {
		return step("xfrm policy", err)
	}
	defer func() { _ = netlink.XfrmPolicyDel(policy) }()
	return a.send(message{to: a.Allowed4})
}

// tun makes the device node itself, which Docker's rules for devices let it.
func tun(a *attempt) error {
	const node, major, minor = "/egwtun", 10, 200
	err := unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor)))
	if err != nil {
		return step("mknod", err)
	}
	defer os.Remove(node)
	fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return step("open tun", err)
	}
	defer unix.Close(fd)
	var request struct {
		name  [16]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:], "egwtun")
	request.flags = unix.IFF_TUN | unix.IFF_NO_PI
	_, _, no := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request)))
	if no != 0 {
		return step("TUNSETIFF", no)
	}
	link, err := netlink.LinkByName("egwtun")
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		return step("link up", err)
	}
	own, err := a.own("4")
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, ipPacket(a.Addr4(), own, unix.IPPROTO_ICMP, echoRequest(a.Addr4(), own, a.text)))
	return step("write", err)
}
