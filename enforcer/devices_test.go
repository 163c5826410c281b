package enforcer

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

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

func (f *fakeWalls) Devices() (map[int]uint32, error) { return maps.Clone(f.owners), nil }

func (f *fakeWalls) SetDevices(owners map[int]uint32) error {
	f.owners = maps.Clone(owners)
	return nil
}

func (f *fakeWalls) UnwallGone(there map[int]bool) error { f.there = there; return nil }

func veth(index, space int, name string) netlink.Link {
	return &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Index: index, Name: name, NetNsID: space}}
}

// enslaved is on a bridge; its other end has not been moved yet.
func enslaved(index int, name string) netlink.Link {
	return &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Index: index, Name: name, NetNsID: -1, MasterIndex: 2}}
}

func wallsOf(t *testing.T, f *fakeWalls) *walls {
	t.Helper()
	w, err := newWalls(f, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func told(kind uint16, l netlink.Link) netlink.LinkUpdate {
	u := netlink.LinkUpdate{Link: l}
	u.Header.Type = kind
	return u
}

func TestEveryLinkOfAContainerGetsAWall(t *testing.T) {
	f := &fakeWalls{walled: map[int]int{}, fails: 6, owners: map[int]uint32{99: 9}} // of a device that is gone
	w := wallsOf(t, f)
	links := []netlink.Link{
		&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 1, Name: "lo", NetNsID: -1}},
		&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Index: 2, Name: "docker0", NetNsID: -1}},
		veth(3, 0, "veth3"), veth(4, 7, "veth4"), enslaved(5, "veth5"), veth(6, 0, "veth6"),
	}
	owners := map[int]uint32{0: 10, 7: 11, 9: 12}
	for _, told := range []map[int]uint32{owners, nil} { // Docker may be away
		err := w.compare(links, told, time.Now())
		if err == nil || !strings.Contains(err.Error(), "veth6: no room") {
			t.Errorf("compare: %v", err)
		}
		if diff := cmp.Diff(map[int]uint32{3: 10, 4: 11}, f.owners); diff != "" {
			t.Errorf("owners:\n%s", diff)
		}
	}
	// What stands was left alone the second time.
	if diff := cmp.Diff(map[int]int{2: 1, 3: 1, 4: 1, 5: 1}, f.walled); diff != "" {
		t.Errorf("walled:\n%s", diff)
	}
	if len(f.there) != len(links) {
		t.Errorf("%d devices are told to be there", len(f.there))
	}
	w.take(told(unix.RTM_DELLINK, veth(3, 0, "veth3")), time.Now())
	for range 2 {
		w.take(told(unix.RTM_NEWLINK, veth(3, 0, "veth3")), time.Now())
	}
	if f.walled[3] != 2 {
		t.Errorf("a device with an index that was another's: walled %d times, want once more", f.walled[3]-1)
	}
}

// TestANewLinkIsAnUnknownContainersAtFirst holds that there is no time in which what a
// container's kernel sends is nobody's.
func TestANewLinkIsAnUnknownContainersAtFirst(t *testing.T) {
	f := &fakeWalls{walled: map[int]int{}, owners: map[int]uint32{}}
	w := wallsOf(t, f)
	began := time.Now()
	dockers, others, strays := veth(3, 0, "veth0a1b2c3"), veth(4, 1, "vethXk2Pq9"), veth(5, 2, "vethfffffff")
	for _, l := range []netlink.Link{dockers, others, strays} {
		w.take(told(unix.RTM_NEWLINK, l), began)
	}
	steps := []struct {
		after time.Duration
		told  map[int]uint32
		want  map[int]uint32
	}{
		{0, nil, map[int]uint32{3: unknownIndex, 5: unknownIndex}},
		{time.Second, map[int]uint32{0: 10}, map[int]uint32{3: 10, 5: unknownIndex}},
		{2 * unknownFor, nil, map[int]uint32{3: 10}},
	}
	for _, s := range steps {
		if s.after > 0 {
			if err := w.compare([]netlink.Link{dockers, others, strays}, s.told, began.Add(s.after)); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(s.want, f.owners); diff != "" {
			t.Errorf("after %s:\n%s", s.after, diff)
		}
	}
}

// TestWhatAnEarlierProcessMetIsKeptAndLetGo holds for the next one: owners stand until
// Docker tells, and links of nobody's are let go all the same.
func TestWhatAnEarlierProcessMetIsKeptAndLetGo(t *testing.T) {
	f := &fakeWalls{walled: map[int]int{}, owners: map[int]uint32{3: 10, 4: unknownIndex}}
	w := wallsOf(t, f)
	// Made while no process looked: it is met now.
	links := []netlink.Link{veth(3, 0, "veth0a1b2c3"), veth(4, 1, "veth0a1b2c4"), veth(5, 2, "veth0a1b2c5")}
	for after, want := range map[time.Duration]map[int]uint32{
		0:              {3: 10, 4: unknownIndex, 5: unknownIndex},
		2 * unknownFor: {3: 10},
	} {
		w := w
		if after > 0 {
			w = wallsOf(t, f)
		}
		if err := w.compare(links, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := w.compare(links, nil, time.Now().Add(after)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, f.owners); diff != "" {
			t.Errorf("after %s:\n%s", after, diff)
		}
		f.owners = map[int]uint32{3: 10, 4: unknownIndex}
	}
}

func TestOnlyTheHostsEndOfALinkIsWalled(t *testing.T) {
	f := &fakeWalls{walled: map[int]int{}, owners: map[int]uint32{}}
	w := wallsOf(t, f)
	// Docker makes both ends on the host, and gives both such a name.
	for _, l := range []netlink.Link{veth(3, -1, "veth0a1b2c3"), enslaved(4, "veth0a1b2c4")} {
		w.take(told(unix.RTM_NEWLINK, l), time.Now())
	}
	if diff := cmp.Diff(map[int]int{4: 1}, f.walled); diff != "" {
		t.Errorf("walled:\n%s", diff)
	}
	port := told(unix.RTM_DELLINK, enslaved(4, "veth0a1b2c4"))
	port.Family = unix.AF_BRIDGE // it leaves the bridge, and lives
	w.take(port, time.Now())
	if _, owned := f.owners[4]; !owned || !w.stand[4] {
		t.Error("a port that left its bridge is forgotten")
	}
	w.take(told(unix.RTM_DELLINK, enslaved(4, "veth0a1b2c4")), time.Now())
	if len(f.owners) != 0 {
		t.Errorf("a device that is gone has an owner in the kernel: %v", f.owners)
	}
}
