// Package world is the network that tests live in: two network namespaces,
// apart from the machine's own network, so that no packet of a test can leave
// it and nothing of the machine's has to be changed.
//
//	egwhost   where dockerd, containers and cgroup probes live; default route to
//	egwworld  "the internet": owns the ranges in Owned, answers echo on Ports,
//	          and counts every packet that arrives
//
// Processes of a test reach it by Host.Start or Host.Do. Whoever serves inside
// Host is reached from outside by World.Do.
package world

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Owned are the destinations that the world answers for: the documentation and
// benchmark ranges, a private network, metadata services and public resolvers.
var Owned = prefixes(
	"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "192.168.0.0/16",
	"169.254.169.254/32", "1.1.1.1/32", "8.8.8.8/32",
	"2001:db8::/32", "fd00:ec2::254/128", "2606:4700:4700::1111/128")

// Addresses of the link between the two, and what Docker may use in Host: the
// world has a way back to Pool4 and Pool6 alone.
var (
	HostAddr4  = netip.MustParseAddr("10.202.0.1")
	HostAddr6  = netip.MustParseAddr("fd00:202::1")
	WorldAddr4 = netip.MustParseAddr("10.202.0.2")
	WorldAddr6 = netip.MustParseAddr("fd00:202::2")
	Pool4      = netip.MustParsePrefix("10.203.0.0/16")
	Pool6      = netip.MustParsePrefix("fd00:203::/32")
)

// Ports are those with echo servers, TCP and UDP, on every address.
var Ports = []uint16{7, 53, 80, 443, 853, 8080, 8443}

// Names of the namespaces and of the veth's ends in them.
const (
	hostName, worldName  = "egwhost", "egwworld"
	hostLink, worldLink  = "egwworld0", "egwhost0"
	sysctlOn, sysctlOff  = "1", "0"
	linkBits4, linkBits6 = 30, 64
	// receiveBuffer holds some 50,000 packets while the reader waits for a CPU.
	receiveBuffer = 64 << 20
)

// World is the test network. One exists at a time on a machine.
type World struct {
	Host, World *Namespace

	// uplinks: there are ways into the world besides the one.
	uplinks bool
	sinks   sync.WaitGroup
	closers []func() error
}

// New makes the world, and takes it down when the test ends. Leftovers of a
// test that crashed are replaced.
func New(t testing.TB) *World {
	t.Helper()
	testutil.Privileged(t)
	w := &World{}
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Errorf("take down the test network: %v", err)
		}
	})
	if err := w.build(); err != nil {
		t.Fatalf("make the test network: %v", err)
	}
	return w
}

func (w *World) build() (err error) {
	if w.World, err = newNamespace(worldName); err != nil {
		return err
	}
	if w.Host, err = newNamespace(hostName); err != nil {
		return err
	}
	if err := w.connect(); err != nil {
		return err
	}
	for _, port := range Ports {
		if err := w.Listen(port); err != nil {
			return err
		}
	}
	return nil
}

// connect joins the namespaces and sets addresses and routes.
func (w *World) connect() error {
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: hostLink},
		PeerName:      worldLink,
		PeerNamespace: netlink.NsFd(int(w.World.fd)),
	}
	if err := w.Host.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("make veth %s: %w", hostLink, err)
	}
	err := errors.Join(
		w.Host.sysctl(map[string]string{
			"ipv4/ip_forward": sysctlOn, "ipv6/conf/all/forwarding": sysctlOn,
			"ipv4/conf/all/rp_filter": sysctlOff, "ipv4/conf/default/rp_filter": sysctlOff,
			"ipv4/ping_group_range": "0 2147483647",
			// Bridges would take seconds to use their IPv6 address.
			"ipv6/conf/default/accept_dad": sysctlOff,
		}),
		w.World.sysctl(map[string]string{
			"ipv4/conf/all/rp_filter": sysctlOff, "ipv4/conf/default/rp_filter": sysctlOff,
			"ipv4/tcp_fastopen": "3", "core/somaxconn": "4096",
			// Answers come from addresses that are routed here, not assigned.
			"ipv4/ip_nonlocal_bind": sysctlOn, "ipv6/ip_nonlocal_bind": sysctlOn,
			// What nobody owns is told to be unreachable, however often.
			"ipv4/ip_forward": sysctlOn, "ipv6/conf/all/forwarding": sysctlOn,
			"ipv4/icmp_ratelimit": sysctlOff, "ipv6/icmp/ratelimit": sysctlOff,
		}))
	if err != nil {
		return err
	}
	err = errors.Join(
		w.Host.up(hostLink, HostAddr4, HostAddr6),
		w.World.up(worldLink, WorldAddr4, WorldAddr6))
	if err != nil {
		return err
	}
	return errors.Join(w.hostRoutes(), w.worldRoutes())
}

// hostRoutes sends all that is not local into the world.
func (w *World) hostRoutes() error {
	return errors.Join(
		w.Host.route(netip.MustParsePrefix("0.0.0.0/0"), hostLink, WorldAddr4),
		w.Host.route(netip.MustParsePrefix("::/0"), hostLink, WorldAddr6))
}

// worldRoutes makes the owned ranges local there, and adds the ways back.
func (w *World) worldRoutes() error {
	lo, err := w.World.nl.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	for _, p := range Owned {
		err := w.World.nl.RouteAdd(&netlink.Route{
			LinkIndex: lo.Attrs().Index, Dst: ipNet(p), Table: unix.RT_TABLE_LOCAL,
			Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
		})
		if err != nil {
			return fmt.Errorf("own %s: %w", p, err)
		}
	}
	return errors.Join(
		w.World.route(Pool4, worldLink, HostAddr4),
		w.World.route(Pool6, worldLink, HostAddr6))
}

func (w *World) close() error {
	var errs []error
	for _, c := range w.closers {
		errs = append(errs, c())
	}
	w.sinks.Wait()
	for _, n := range []*Namespace{w.Host, w.World} {
		if n != nil {
			errs = append(errs, n.close())
		}
	}
	return errors.Join(errs...)
}

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		all[i] = netip.MustParsePrefix(s)
	}
	return all
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
