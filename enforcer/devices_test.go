package enforcer

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// fakeWalls is the gate's side of network devices.
type fakeWalls struct {
	walled map[int]int
	owners map[int]uint32
	there  map[int]bool
	fails  int // the device at which no wall can stand
}

func (f *fakeWalls) WallDevice(index int) error {
	if index == f.fails {
		return errors.New("no room")
	}
	f.walled[index]++
	return nil
}

func (f *fakeWalls) SetDevices(owners map[int]uint32) error { f.owners = owners; return nil }

func (f *fakeWalls) UnwallGone(there map[int]bool) error { f.there = there; return nil }

func veth(index, space int) netlink.Link {
	return &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Index: index, Name: "veth", NetNsID: space}}
}

func TestEveryLinkOfAContainerGetsAWall(t *testing.T) {
	f := &fakeWalls{walled: map[int]int{}, fails: 6}
	w := walls{gate: f, stand: map[int]bool{}}
	links := []netlink.Link{
		&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 1, Name: "lo", NetNsID: -1}},
		&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Index: 2, Name: "docker0", NetNsID: -1}},
		veth(3, 0), veth(4, 7), veth(5, -1), veth(6, 0),
	}
	owners := map[int]uint32{0: 10, 7: 11, 9: 12}
	for range 2 { // what stands is left alone
		if err := w.compare(links, owners); err == nil || !strings.Contains(err.Error(), "veth: no room") {
			t.Errorf("compare: %v", err)
		}
	}
	if diff := cmp.Diff(map[int]int{2: 1, 3: 1, 4: 1, 5: 1}, f.walled); diff != "" {
		t.Errorf("walled:\n%s", diff)
	}
	if diff := cmp.Diff(map[int]uint32{3: 10, 4: 11}, f.owners); diff != "" {
		t.Errorf("owners:\n%s", diff)
	}
	if len(f.there) != len(links) {
		t.Errorf("%d devices are told to be there", len(f.there))
	}
	gone := netlink.LinkUpdate{Link: veth(3, 0)}
	gone.Header.Type = unix.RTM_DELLINK
	w.take(gone)
	again := netlink.LinkUpdate{Link: veth(3, 0)}
	again.Header.Type = unix.RTM_NEWLINK
	w.take(again)
	w.take(again)
	if f.walled[3] != 2 {
		t.Errorf("a device with an index that was another's: walled %d times, want once more", f.walled[3]-1)
	}
}
