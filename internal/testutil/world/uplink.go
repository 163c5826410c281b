package world

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Uplink adds a device to Host that has no address there: networks that need no
// bridge, such as macvlan, have it as their parent. What they send comes out in
// the world, which has the gateways' addresses.
func (w *World) Uplink(t testing.TB, name string, gateways ...netip.Prefix) {
	t.Helper()
	if err := w.uplink(name, gateways); err != nil {
		t.Fatalf("uplink %s: %v", name, err)
	}
	w.uplinks = true
}

func (w *World) uplink(name string, gateways []netip.Prefix) error {
	err := w.Host.nl.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name, PeerNamespace: netlink.NsFd(int(w.World.fd)),
	})
	if err != nil {
		return fmt.Errorf("make it: %w", err)
	}
	near, err := w.Host.nl.LinkByName(name)
	if err != nil {
		return err
	}
	end, err := w.World.nl.LinkByName(name)
	if err != nil {
		return err
	}
	for _, p := range gateways {
		// Without duplicate address detection, which would take seconds.
		if err := w.World.nl.AddrAdd(end, &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("add %s: %w", p, err)
		}
	}
	return errors.Join(w.World.nl.LinkSetUp(end), w.Host.nl.LinkSetUp(near))
}

// Has tells whether this kernel makes devices of a kind.
func (w *World) Has(t testing.TB, kind string) bool {
	t.Helper()
	l := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: "egwtry", ParentIndex: 1}, LinkType: kind}
	err := w.World.nl.LinkAdd(l)
	if err == nil {
		err = w.World.nl.LinkDel(l)
	}
	return !errors.Is(err, unix.EOPNOTSUPP)
}
