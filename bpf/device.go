package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	wallsDir = "walls"
	// classic ends the name of a pin that is a program's, where the kernel has no
	// links for network devices: it has them since 6.6.
	classic = "_tc"
	// classicHandle tells our filters from those of others: "egw".
	classicHandle, classicPriority = 0x656777, 1
)

// side is a program for one direction of a network device.
type side struct {
	name   string
	prog   *ebpf.Program
	attach ebpf.AttachType
	parent uint32
}

// sides are in the order of attaching: who is heard of, before it is asked for.
func (g *Gate) sides() []side {
	return []side{
		{"hear", g.objects.Hear, ebpf.AttachTCXEgress, netlink.HANDLE_MIN_EGRESS},
		{"frame", g.objects.Frame, ebpf.AttachTCXIngress, netlink.HANDLE_MIN_INGRESS},
	}
}

// WallDevice puts the wall on a network device in the network namespace of the
// calling thread: the host's side of a container's link, or a bridge between them.
// It stays without this process, like the gate, and where it stands already nothing
// is changed. On a device that SetDevices names nobody for, it refuses frames of
// packet sockets alone.
func (g *Gate) WallDevice(index int) error {
	for _, s := range g.sides() {
		if err := g.wallSide(s, index); err != nil {
			return fmt.Errorf("wall on device %d: %s: %w", index, s.name, err)
		}
	}
	return nil
}

func (g *Gate) wallSide(s side, index int) error {
	pin := filepath.Join(g.dir, wallsDir, fmt.Sprintf("%d_%s", index, s.name))
	if g.noTCX {
		return s.wallClassic(pin+classic, index)
	}
	done, err := withPinnedLink(pin, func(l link.Link, info *link.Info) (bool, error) {
		// The device may be gone, and another one have its index.
		if at := info.TCX(); at == nil || at.Ifindex != uint32(index) {
			return false, nil
		}
		own, err := s.prog.Info()
		if err != nil {
			return false, err
		}
		if id, ok := own.ID(); ok && id == info.Program {
			return true, nil
		}
		return true, l.Update(s.prog)
	})
	if done || err != nil {
		return err
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: s.prog, Attach: s.attach, Anchor: link.Head()})
	if err != nil {
		return err
	}
	defer l.Close()
	return pinInPlace(l, pin)
}

// wallClassic is for kernels before 6.6: a filter, which has no life of its own but
// the device's.
func (s side) wallClassic(pin string, index int) error {
	info, err := s.prog.Info()
	if err != nil {
		return err
	}
	id, _ := info.ID()
	has, err := classicFilter(index, s.parent)
	if err != nil {
		return err
	}
	if has != nil && has.Id == int(id) {
		return nil
	}
	// First the pin, so that what is at work can always be found and taken off.
	if err := pinInPlace(s.prog, pin); err != nil {
		return err
	}
	// What failed leaves none but where an older filter is at work.
	unpin := func() error {
		if has != nil {
			return nil
		}
		return os.Remove(pin)
	}
	err = netlink.QdiscAdd(&netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0),
	}})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return errors.Join(fmt.Errorf("add clsact: %w", err), unpin())
	}
	err = netlink.FilterReplace(&netlink.BpfFilter{
		FilterAttrs:  classicAttrs(index, s.parent),
		Fd:           s.prog.FD(),
		Name:         "egresswarden",
		DirectAction: true,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("replace filter: %w", err), unpin())
	}
	return nil
}

func classicAttrs(index int, parent uint32) netlink.FilterAttrs {
	return netlink.FilterAttrs{
		LinkIndex: index, Parent: parent, Handle: classicHandle, Priority: classicPriority, Protocol: unix.ETH_P_ALL,
	}
}

// classicFilter is ours at the device, nil if there is none, or no device.
func classicFilter(index int, parent uint32) (*netlink.BpfFilter, error) {
	all, err := netlink.FilterList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index}}, parent)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) {
		return nil, nil // no such device, or nothing for filters to be at
	}
	if err != nil {
		return nil, fmt.Errorf("list filters of device %d: %w", index, err)
	}
	for _, f := range all {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Handle == classicHandle {
			return b, nil
		}
	}
	return nil, nil
}

// Walled are the devices of the calling thread's network namespace at which the wall
// of a pinned gate stands.
func Walled(pinDir string) (map[int]bool, error) {
	if pinDir == "" {
		pinDir = DefaultPinDir
	}
	dir := filepath.Join(layoutDir(pinDir, Layout), wallsDir)
	pins, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list walled devices: %w", err)
	}
	out := map[int]bool{}
	for _, p := range pins {
		index, of, ok := parseWall(p.Name())
		if !ok || of.name != "frame" {
			continue
		}
		if strings.HasSuffix(p.Name(), classic) {
			f, err := classicFilter(index, of.parent)
			out[index] = err == nil && f != nil
			continue
		}
		out[index], err = withPinnedLink(filepath.Join(dir, p.Name()), func(_ link.Link, info *link.Info) (bool, error) {
			at := info.TCX()
			return at != nil && at.Ifindex == uint32(index), nil
		})
		if err != nil {
			return nil, fmt.Errorf("wall on device %d: %w", index, err)
		}
	}
	return out, nil
}

// parseWall undoes the name of a wall's pin.
func parseWall(name string) (index int, of side, ok bool) {
	number, word, _ := strings.Cut(strings.TrimSuffix(name, classic), "_")
	index, err := strconv.Atoi(number)
	for _, s := range (&Gate{}).sides() {
		if s.name == word {
			return index, s, err == nil
		}
	}
	return 0, side{}, false
}

// SetDevices tells of which container each device is, by its index: what comes from
// it by no container's socket is judged for that one. Devices that are not named
// are nobody's.
func (g *Gate) SetDevices(owners map[int]uint32) error {
	have, err := g.Devices()
	if err != nil {
		return err
	}
	var errs []error
	for device, index := range owners {
		if err := g.checkIndex(index); err != nil {
			return fmt.Errorf("set device %d: %w", device, err)
		}
		if old, ok := have[device]; !ok || old != index {
			errs = append(errs, wrap("set device", device, g.objects.Devices.Put(uint32(device), index)))
		}
	}
	for device := range have {
		if _, ok := owners[device]; !ok {
			errs = append(errs, wrap("forget device", device, g.objects.Devices.Delete(uint32(device))))
		}
	}
	return errors.Join(errs...)
}

// Devices tells of which container each device is.
func (g *Gate) Devices() (map[int]uint32, error) {
	owners := map[int]uint32{}
	err := listHash(g.objects.Devices, func(device, index uint32) { owners[int(device)] = index })
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return owners, nil
}

// UnwallGone removes the pins of devices other than these, which are those that there
// are.
func (g *Gate) UnwallGone(there map[int]bool) error {
	pins, err := os.ReadDir(filepath.Join(g.dir, wallsDir))
	if err != nil {
		return fmt.Errorf("list walled devices: %w", err)
	}
	var errs []error
	for _, p := range pins {
		if index, _, ok := parseWall(p.Name()); ok && !there[index] {
			errs = append(errs, removeWall(filepath.Join(g.dir, wallsDir, p.Name())))
		}
	}
	return errors.Join(errs...)
}

// removeWall takes the program of a pin off its device, if that is still there.
func removeWall(pin string) error {
	name := filepath.Base(pin)
	if strings.HasSuffix(name, aside) {
		return os.Remove(pin) // it was never put in place
	}
	if !strings.HasSuffix(name, classic) {
		_, err := withPinnedLink(pin, func(l link.Link, info *link.Info) (bool, error) {
			if at := info.TCX(); at != nil && at.Ifindex != 0 {
				return true, l.Detach()
			}
			return true, nil
		})
		return errors.Join(err, os.Remove(pin))
	}
	index, of, ok := parseWall(name)
	if !ok {
		return os.Remove(pin)
	}
	f, err := classicFilter(index, of.parent)
	if err != nil {
		return err
	}
	if f != nil {
		if err := netlink.FilterDel(&netlink.BpfFilter{FilterAttrs: classicAttrs(index, of.parent)}); err != nil {
			return fmt.Errorf("remove filter of device %d: %w", index, err)
		}
	}
	return os.Remove(pin)
}
