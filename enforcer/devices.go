package enforcer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/schemas"
)

const (
	// devicesEvery is how often all devices are looked at, whatever the kernel told.
	devicesEvery = 10 * time.Second
	// devicesRest is how long changes are gathered before devices are compared.
	devicesRest = 100 * time.Millisecond
	// unknownFor is how long a new link is taken for that of a container that nobody
	// told of. Docker may need seconds until it does; what is not its own is let go.
	unknownFor = 10 * time.Second
	// unknownIndex is that of containers that nobody told of.
	unknownIndex = 0
)

// dockersLink is how Docker names the host's side of a container's link.
var dockersLink = regexp.MustCompile(`^veth[0-9a-f]{7}$`)

// gateWalls is what is asked of the gate about network devices.
type gateWalls interface {
	WallDevice(index int) error
	Devices() (map[int]uint32, error)
	SetDevices(owners map[int]uint32) error
	UnwallGone(there map[int]bool) error
}

// walls keeps a wall on the host's side of every container's link, from the moment on
// that the link is made, and the gate told of whose it is. On the bridges too: a
// container that is created while this process is dead has at least that one.
type walls struct {
	gate gateWalls
	// running are the containers whose first process is known.
	running func() []Container
	// stand are the devices that have one, by what this process did.
	stand map[int]bool
	// owners are the containers of devices, which have one for as long as they are:
	// Docker may be away. A new link of Docker's is an unknown container's at first,
	// from the time in unknown on.
	owners  map[int]uint32
	unknown map[int]time.Time
}

// keepWalls does so until ctx ends.
func (e *Enforcer) keepWalls(ctx context.Context) error {
	for ctx.Err() == nil {
		err := e.followDevices(ctx)
		if ctx.Err() == nil {
			e.wallProblem(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(reconnectMin):
		}
	}
	return ctx.Err()
}

func (e *Enforcer) wallProblem(err error) {
	if e.problems.set("devices", err) && err != nil {
		e.report.add(warn(schemas.KindDevicesUnwalled, "no wall at every network device, packet sockets may pass there", err))
	}
}

// followDevices walls each device that the kernel tells of at once, and compares all
// of them soon after a change and from time to time, until the messages end.
func (e *Enforcer) followDevices(ctx context.Context) error {
	owners, err := e.gate.Devices()
	if err != nil {
		return err
	}
	w := walls{gate: e.gate, running: e.registry.running, stand: map[int]bool{}, owners: owners, unknown: map[int]time.Time{}}
	var broken error
	updates, done := make(chan netlink.LinkUpdate, 256), make(chan struct{})
	defer func() {
		close(done)
		for range updates { // until who writes them has ended
		}
	}()
	err = netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{
		ErrorCallback: func(err error) { broken = err }, // before it closes the channel
	})
	if err != nil {
		close(updates)
		return fmt.Errorf("watch network devices: %w", err)
	}
	e.wallProblem(e.compareDevices(&w))
	tick, rest := time.NewTicker(devicesEvery), time.NewTimer(devicesEvery)
	defer tick.Stop()
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			clear(w.stand)
			e.wallProblem(e.compareDevices(&w))
		case <-rest.C:
			e.wallProblem(e.compareDevices(&w))
		case <-e.placed:
			e.wallProblem(e.compareDevices(&w))
		case u, ok := <-updates:
			if !ok {
				return fmt.Errorf("watch network devices: %w", errors.Join(errors.New("the kernel's messages ended"), broken))
			}
			w.take(u, time.Now())
			rest.Reset(devicesRest)
		}
	}
}

// take walls a new device. What fails is tried again, and told, by the comparison.
func (w *walls) take(u netlink.LinkUpdate, now time.Time) {
	a := u.Attrs()
	if u.Header.Type == unix.RTM_DELLINK {
		w.forget(a.Index)
		return
	}
	if !isWalled(u.Link) || w.stand[a.Index] {
		return
	}
	if _, owned := w.owners[a.Index]; !owned && dockersLink.MatchString(a.Name) {
		w.owners[a.Index], w.unknown[a.Index] = unknownIndex, now
		_ = w.gate.SetDevices(w.owners)
	}
	w.stand[a.Index] = w.gate.WallDevice(a.Index) == nil
}

func (w *walls) forget(index int) {
	delete(w.stand, index)
	delete(w.owners, index)
	delete(w.unknown, index)
}

// isWalled tells whether a device gets a wall.
func isWalled(l netlink.Link) bool { return l.Type() == "veth" || l.Type() == "bridge" }

// compareDevices looks at every device, unless somebody took the gate off.
func (e *Enforcer) compareDevices(w *walls) error {
	if !e.gate.Attached() {
		return nil
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("network devices: %w", err)
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("list network devices: %w", err)
	}
	return w.compare(links, spaces(h, w.running()), time.Now())
}

// compare does what can be done, and tells what could not. Owners are by the number of
// the network namespace at the other end.
func (w *walls) compare(links []netlink.Link, owners map[int]uint32, now time.Time) error {
	there := map[int]bool{}
	var errs []error
	for _, l := range links {
		a := l.Attrs()
		there[a.Index] = true
		if !isWalled(l) {
			continue
		}
		if !w.stand[a.Index] {
			if err := w.gate.WallDevice(a.Index); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", a.Name, err))
				continue
			}
			w.stand[a.Index] = true
		}
		if index, ok := owners[a.NetNsID]; ok && a.NetNsID >= 0 {
			w.owners[a.Index] = index
			delete(w.unknown, a.Index)
		}
	}
	w.letGo(there, now)
	return errors.Join(append(errs, w.gate.SetDevices(w.owners), w.gate.UnwallGone(there))...)
}

// letGo forgets devices that are gone, and whose they are where nobody told.
func (w *walls) letGo(there map[int]bool, now time.Time) {
	for index := range w.stand {
		if !there[index] {
			w.forget(index)
		}
	}
	maps.DeleteFunc(w.owners, func(index int, _ uint32) bool { return !there[index] })
	maps.DeleteFunc(w.unknown, func(index int, since time.Time) bool {
		over := now.Sub(since) > unknownFor
		if over {
			delete(w.owners, index)
		}
		return over
	})
}

// spaces are the containers by the number that this network namespace has for theirs.
// Of several in one namespace it is the one that may least.
func spaces(h *netlink.Handle, running []Container) map[int]uint32 {
	by := map[int]Container{}
	for _, c := range running {
		n, err := h.GetNetNsIdByPid(c.pid)
		if err != nil || n < 0 {
			continue // it has ended, or shares the host's network
		}
		if had, ok := by[n]; !ok || c.Mode > had.Mode || c.Mode == had.Mode && c.Index < had.Index {
			by[n] = c
		}
	}
	out := make(map[int]uint32, len(by))
	for n, c := range by {
		out[n] = c.Index
	}
	return out
}

// running are the containers whose first process is known.
func (r *registry) running() (out []Container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.containers {
		if c.Running && c.pid > 0 {
			out = append(out, *c)
		}
	}
	return out
}
