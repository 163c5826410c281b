package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/world"
)

// ofEnv makes this test binary a process that tells of the namespace of
// another, whose id it is.
const ofEnv = "EGW_TEST_NETNS_OF"

func TestMain(m *testing.M) {
	pid, err := strconv.Atoi(os.Getenv(ofEnv))
	if err != nil {
		os.Exit(m.Run())
	}
	n, err := Of(pid)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(n)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// seen is what a process in the place tells of the namespace of another.
func seen(t *testing.T, place *world.Namespace, pid int) Namespace {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env, c.Stderr = append(os.Environ(), ofEnv+"="+strconv.Itoa(pid)), os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := place.Start(c); err != nil {
		t.Fatal(err)
	}
	var n Namespace
	err = json.NewDecoder(out).Decode(&n)
	if err = errors.Join(err, c.Wait()); err != nil {
		t.Fatal(err)
	}
	return n
}

// dweller is the id of a process in the place; with CLONE_NEWNET, in an empty
// namespace of its own.
func dweller(t *testing.T, place *world.Namespace, flags uintptr) int {
	t.Helper()
	c := exec.Command("sleep", "600")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if err := place.Do(c.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return c.Process.Pid
}

// furnish puts devices into the namespace of a process, which the test's network
// is around. It tells which ones this kernel does not have.
func furnish(t *testing.T, w *world.World, pid int) (lacking []string) {
	t.Helper()
	at := func(name string, index int) netlink.LinkAttrs {
		return netlink.LinkAttrs{Name: name, Index: index, ParentIndex: 501, Namespace: netlink.NsPid(pid)}
	}
	veth := func(a netlink.LinkAttrs) *netlink.Veth {
		a.ParentIndex = 0
		return &netlink.Veth{LinkAttrs: a, PeerName: a.Name + "p"}
	}
	link := func(place *world.Namespace, l netlink.Link) {
		err := place.Do(func() error { return netlink.LinkAdd(l) })
		if errors.Is(err, unix.EOPNOTSUPP) {
			t.Logf("this kernel has no %s", l.Type())
			lacking = append(lacking, l.Attrs().Name)
		} else if err != nil {
			t.Fatalf("%s: %v", l.Attrs().Name, err)
		}
	}
	link(w.Host, veth(netlink.LinkAttrs{Name: "parent", Index: 501}))
	link(w.Host, veth(at("eth0", 601)))
	link(w.World, veth(at("eth1", 602)))
	link(w.Host, &netlink.Macvlan{LinkAttrs: at("eth2", 603), Mode: netlink.MACVLAN_MODE_BRIDGE})
	link(w.Host, &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", Index: 604, Namespace: netlink.NsPid(pid)}})
	f, err := Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = In(f, func() error {
		return errors.Join(
			netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN}),
			netlink.LinkAdd(veth(netlink.LinkAttrs{Name: "in0", Index: 701})))
	})
	if err != nil {
		t.Fatal(err)
	}
	return lacking
}

// index is that of a device of the place.
func index(t *testing.T, place *world.Namespace, name string) (i int) {
	t.Helper()
	err := place.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err == nil {
			i = l.Attrs().Index
		}
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return i
}

func byName(n Namespace) map[string]Device {
	out := map[string]Device{}
	for _, d := range n.Devices {
		out[d.Name] = d
	}
	return out
}

func TestTheDevicesOfANamespace(t *testing.T) {
	w := world.New(t)
	pid := dweller(t, w.Host, unix.CLONE_NEWNET)
	lacking := furnish(t, w, pid)
	n := seen(t, w.Host, pid)
	if n.Host {
		t.Error("a namespace of its own is told to be the host's")
	}
	got := byName(n)
	want := map[string]Device{
		"lo":   {Name: "lo", Index: 1, Kind: Loopback},
		"eth0": {Name: "eth0", Index: 601, Kind: "veth", Peer: index(t, w.Host, "eth0p")},
		"eth1": {Name: "eth1", Index: 602, Kind: "veth"}, // its peer is in the world
		"eth2": {Name: "eth2", Index: 603, Kind: "macvlan"},
		"br0":  {Name: "br0", Index: 604, Kind: "bridge"},
		"tun0": {Name: "tun0", Index: got["tun0"].Index, Kind: "tun"},
		"in0":  {Name: "in0", Index: 701, Kind: "veth"}, // both ends are there
		"in0p": {Name: "in0p", Index: got["in0p"].Index, Kind: "veth"},
	}
	for _, name := range lacking {
		want[name] = Device{}
	}
	for name, d := range want {
		if diff := cmp.Diff(d, got[name]); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
	if from := byName(seen(t, w.World, pid)); from["eth0"].Peer != 0 || from["eth1"].Peer != index(t, w.World, "eth1p") {
		t.Errorf("seen from the world: %+v, %+v", from["eth0"], from["eth1"])
	}
}

func TestTheHostsOwnNamespace(t *testing.T) {
	w := world.New(t)
	err := w.Host.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "own0"}, PeerName: "own1"})
	})
	if err != nil {
		t.Fatal(err)
	}
	n := seen(t, w.Host, dweller(t, w.Host, 0))
	got := byName(n)
	if !n.Host || got["own0"].Peer != got["own1"].Index || got["own1"].Peer != got["own0"].Index || got["own0"].Peer == 0 {
		t.Errorf("%+v", n)
	}
	for name, d := range got {
		if name != "own0" && name != "own1" && d.Peer != 0 {
			t.Errorf("the peer of %s is elsewhere: %+v", name, d)
		}
	}
}

func TestWhatTheLibraryCallsADevice(t *testing.T) {
	attrs := netlink.LinkAttrs{Name: "x", Index: 7, ParentIndex: 9, NetNsID: 3}
	for want, link := range map[Device]netlink.Link{
		{Kind: Physical}:        &netlink.Device{LinkAttrs: attrs},
		{Kind: "ipvlan"}:        &netlink.IPVlan{LinkAttrs: attrs},
		{Kind: "tun"}:           &netlink.Tuntap{LinkAttrs: attrs},
		{Kind: "new"}:           &netlink.GenericLink{LinkAttrs: attrs, LinkType: "new"},
		{Kind: "veth", Peer: 9}: &netlink.Veth{LinkAttrs: attrs},
	} {
		want.Name, want.Index = "x", 7
		if got := (Namespace{}).device(link, 3); got != want {
			t.Errorf("%s: %+v, want %+v", link.Type(), got, want)
		}
	}
}

func TestAProcessThatIsGone(t *testing.T) {
	c := exec.Command("true")
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := Of(c.Process.Pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestNoThreadAndNoFileStays(t *testing.T) {
	w := world.New(t)
	pid := dweller(t, w.Host, unix.CLONE_NEWNET)
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := files()
	for range 50 {
		if _, err := Of(pid); err != nil {
			t.Fatal(err)
		}
	}
	if after := files(); after != before {
		t.Errorf("%d files were open, now %d", before, after)
	}
	foreign, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		t.Fatal(err)
	}
	testutil.NoThreadIn(t, foreign)
}
