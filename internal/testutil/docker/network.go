package docker

import (
	"context"
	"testing"

	"github.com/docker/docker/api/types/network"
)

// DualSubnet6 is the IPv6 range of the network that DualNetwork makes, within
// world.Pool6. It is routed, not translated: the world sees it, and reaches it.
const DualSubnet6 = "fd00:203:1::/64"

// DualNetwork makes a network with IPv4 and IPv6, removed when the test ends.
func (d *Daemon) DualNetwork(t testing.TB, name string) {
	t.Helper()
	d.Network(t, name, network.CreateOptions{
		Driver: "bridge", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: "10.203.100.0/24"}, {Subnet: DualSubnet6}}},
	})
}

// Network makes a network with IPv6 besides, removed when the test ends.
func (d *Daemon) Network(t testing.TB, name string, o network.CreateOptions) {
	t.Helper()
	on := true
	o.EnableIPv6 = &on
	r, err := d.Client.NetworkCreate(t.Context(), name, o)
	if err != nil {
		t.Fatalf("create network %s: %v", name, err)
	}
	t.Cleanup(func() {
		if err := d.Client.NetworkRemove(context.Background(), r.ID); err != nil {
			t.Errorf("remove network %s: %v", name, err)
		}
	})
}
