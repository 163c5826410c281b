package world

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sysctl writes keys below /proc/sys/net inside the namespace.
func (n *Namespace) sysctl(keys map[string]string) error {
	return n.Do(func() error {
		for k, v := range keys {
			// Not every kernel has every key.
			err := os.WriteFile("/proc/sys/net/"+k, []byte(v), 0)
			if err != nil && !os.IsNotExist(err) {
				return fmt.Errorf("set %s in %s: %w", k, n.Name, err)
			}
		}
		return nil
	})
}

// up raises lo and the link, and gives the link its addresses.
func (n *Namespace) up(name string, four, six netip.Addr) error {
	lo, err := n.nl.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo in %s: %w", n.Name, err)
	}
	link, err := n.nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", name, n.Name, err)
	}
	for _, p := range []netip.Prefix{netip.PrefixFrom(four, linkBits4), netip.PrefixFrom(six, linkBits6)} {
		// Without duplicate address detection, which would take seconds.
		err := n.nl.AddrAdd(link, &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD})
		if err != nil {
			return fmt.Errorf("add %s to %s: %w", p, name, err)
		}
	}
	for _, l := range []netlink.Link{lo, link} {
		if err := n.nl.LinkSetUp(l); err != nil {
			return fmt.Errorf("raise %s in %s: %w", l.Attrs().Name, n.Name, err)
		}
	}
	return nil
}

// route adds a route by a gateway.
func (n *Namespace) route(to netip.Prefix, name string, via netip.Addr) error {
	link, err := n.nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", name, n.Name, err)
	}
	err = n.nl.RouteReplace(&netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: ipNet(to), Gw: via.AsSlice(),
	})
	if err != nil {
		return fmt.Errorf("route %s in %s: %w", to, n.Name, err)
	}
	return nil
}
