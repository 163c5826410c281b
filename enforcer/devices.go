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

	"github.com/egresswarden/egresswarden/enforcer/netns"
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
	// Docker may be away. A link of Docker's is an unknown container's when it is met,
	// from the time in unknown on.
	owners  map[int]uint32
	unknown map[int]time.Time
	met     map[int]bool
}

func newWalls(gate gateWalls, running func() []Container, now time.Time) (*walls, error) {
	owners, err := gate.Devices()
	if err != nil {
		return nil, err
	}
	w := &walls{gate: gate, running: running, stand: map[int]bool{}, owners: owners, unknown: map[int]time.Time{}, met: map[int]bool{}}
	for device, index := range owners {
		w.met[device] = true
		if index == unknownIndex {
			w.unknown[device] = now
		}
	}
	return w, nil
}

// wallAll does so once, before the gate is attached: then no other layout's walls are
// removed before there are these.
func (e *Enforcer) wallAll() error {
	w, err := newWalls(e.gate, e.registry.running, time.Now())
	if err != nil {
		return err
	}
	return w.look()
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
	w, err := newWalls(e.gate, e.registry.running, time.Now())
	if err != nil {
		return err
	}
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
	e.compareDevices(w)
	tick := time.NewTicker(devicesEvery)
	defer tick.Stop()
	var rest <-chan time.Time // not nil once a change waits to be looked at
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			clear(w.stand)
			e.compareDevices(w)
		case <-rest:
			rest = nil
			e.compareDevices(w)
		case <-e.placed:
			e.compareDevices(w)
		case u, ok := <-updates:
			if !ok {
				return fmt.Errorf("watch network devices: %w", errors.Join(errors.New("the kernel's messages ended"), broken))
			}
			w.take(u, time.Now())
			if rest == nil {
				rest = time.After(devicesRest)
			}
		}
	}
}

// take walls a new device. What fails is tried again, and told, by the comparison.
func (w *walls) take(u netlink.LinkUpdate, now time.Time) {
	a := u.Attrs()
	switch {
	case u.Family != unix.AF_UNSPEC: // a bridge tells of its ports
	case u.Header.Type == unix.RTM_DELLINK:
		_, owned := w.owners[a.Index]
		w.forget(a.Index)
		if owned {
			_ = w.gate.SetDevices(w.owners)
		}
	case isWalled(u.Link) && !w.stand[a.Index]:
		if w.meet(u.Link, now) {
			_ = w.gate.SetDevices(w.owners)
		}
		w.stand[a.Index] = w.gate.WallDevice(a.Index) == nil
	}
}

// meet takes a link that is new for an unknown container's.
func (w *walls) meet(l netlink.Link, now time.Time) bool {
	a := l.Attrs()
	if w.met[a.Index] || !dockersLink.MatchString(a.Name) {
		return false
	}
	w.met[a.Index] = true
	w.owners[a.Index], w.unknown[a.Index] = unknownIndex, now
	return true
}

func (w *walls) forget(index int) {
	delete(w.stand, index)
	delete(w.owners, index)
	delete(w.unknown, index)
	delete(w.met, index)
}

// isWalled tells whether a device gets a wall. The container's end of a link may be on
// the host too, at first: it is on no bridge, and its other end in no other namespace.
func isWalled(l netlink.Link) bool {
	a := l.Attrs()
	return l.Type() == "bridge" || l.Type() == "veth" && (a.MasterIndex > 0 || a.NetNsID >= 0)
}

// compareDevices looks at every device, unless somebody took the gate off.
func (e *Enforcer) compareDevices(w *walls) {
	if e.gate.Attached() {
		e.wallProblem(w.look())
	}
}

// look compares with all devices that there are.
func (w *walls) look() error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("network devices: %w", err)
	}
	defer h.Close()
	links, err := netns.Links(h)
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
		w.meet(l, now)
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
	for _, known := range []map[int]bool{w.stand, w.met} {
		for index := range known {
			if !there[index] {
				w.forget(index)
			}
		}
	}
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
