// Package cut ends the connections of a container that its policy would not
// let it make any more: the gate judges connects and sends, and what stood
// before a change asks it nothing. It finds the container's sockets with the
// kernel's sock_diag in every network namespace that its processes are in, and
// destroys them, so that the application sees an error at once.
//
// What is cut: TCP in every state that carries data, and connected UDP, of
// IPv4, IPv6 and mapped addresses, to destinations that are refused. Never:
// sockets of other cgroups in the same namespace, listeners, unconnected UDP,
// and connections that somebody made to the container. These are told by their
// local port, at which the container listens; so one that it made itself from
// a port at which it also listens stands.
package cut

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/policy"
)

// Target is the container whose connections are looked at.
type Target struct {
	// Cgroups are the folders of its cgroup and of all below, by the kernel's
	// id. A socket of any other is somebody else's.
	Cgroups map[uint64]string
	// Refused tells whether the policy in force refuses a destination.
	Refused func(dst netip.Addr, proto policy.Proto, port uint16) (bool, error)
	// Keep counts the connections and leaves them.
	Keep bool
}

// Connections cuts what the target is refused, and tells how many connections
// that were. One that could not be cut, or a namespace that could not be
// looked into, is an error beside the number; one that ended meanwhile is not.
func Connections(t Target) (int, error) {
	spaces, err := namespaces(t.Cgroups)
	errs := []error{err}
	n := 0
	for _, s := range spaces {
		cut, err := s.cut(&t)
		if err != nil {
			err = fmt.Errorf("connections in %s: %w", s.name, err)
		}
		n += cut
		errs = append(errs, err, s.file.Close())
	}
	return n, errors.Join(errs...)
}

// cut does one namespace.
func (s *namespace) cut(t *Target) (int, error) {
	d, err := s.open()
	if err != nil {
		return 0, err
	}
	defer d.close()
	n := 0
	var errs []error
	for _, proto := range []policy.Proto{policy.ProtoTCP, policy.ProtoUDP} {
		refused, err := d.refused(proto, t)
		errs = append(errs, err)
		if t.Keep {
			n += len(refused)
			continue
		}
		cut, err := d.end(refused)
		n += cut
		errs = append(errs, err)
	}
	return n, errors.Join(errs...)
}

// end destroys connections. Of many that it cannot, the error names the first.
func (d *diag) end(all []connection) (n int, err error) {
	failed := 0
	for _, c := range all {
		switch e := d.destroy(c); {
		case e == nil:
			n++
		case errors.Is(e, unix.ENOENT): // it ended by itself
		default:
			if failed++; failed == 1 {
				err = fmt.Errorf("end %s: %w", c, e)
			}
		}
	}
	if failed > 1 {
		err = fmt.Errorf("%w, and %d more", err, failed-1)
	}
	return n, err
}

// refused are the target's own connections that its policy refuses.
func (d *diag) refused(proto policy.Proto, t *Target) ([]connection, error) {
	all, err := d.list(proto, carrying[proto])
	if err != nil {
		return nil, err
	}
	var out []connection
	var errs []error
	known := map[netip.AddrPort]bool{}
	for _, c := range all {
		if _, ours := t.Cgroups[c.cgroup]; !ours {
			continue
		}
		no, judged := known[c.remote]
		if !judged {
			if no, err = t.Refused(c.remote.Addr(), proto, c.remote.Port()); err != nil && errs == nil {
				errs = append(errs, err)
			}
			known[c.remote] = no
		}
		if no {
			out = append(out, c)
		}
	}
	if len(out) > 0 {
		out, err = d.ownOnly(out, proto, t)
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

// ownOnly leaves out what others connected to the container. Who waits for
// them is listed after the connections, so that a server that is just starting
// is among them.
func (d *diag) ownOnly(all []connection, proto policy.Proto, t *Target) ([]connection, error) {
	listeners, err := d.list(proto, waiting[proto])
	if err != nil {
		return nil, err
	}
	served := map[netip.AddrPort]bool{}
	for _, l := range listeners {
		if _, ours := t.Cgroups[l.cgroup]; ours {
			served[l.local] = true
		}
	}
	var own []connection
	for _, c := range all {
		port := c.local.Port()
		if served[c.local] || served[netip.AddrPortFrom(netip.IPv6Unspecified(), port)] ||
			c.local.Addr().Is4() && served[netip.AddrPortFrom(netip.IPv4Unspecified(), port)] {
			continue
		}
		own = append(own, c)
	}
	return own, nil
}
