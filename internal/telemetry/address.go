package telemetry

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Address is where a process listens for scrapes; the empty one is nowhere. As
// a YAML value or a flag it knows whether somebody gave it: a default that is
// taken already costs the metrics alone, one that was given is to be had.
type Address struct {
	Text  string
	Given bool
}

// Default is an address that nobody gave.
func Default(text string) Address { return Address{Text: text} }

// UnmarshalText takes what a configuration file gives, for Validate to judge.
func (a *Address) UnmarshalText(text []byte) error {
	*a = Address{Text: string(text), Given: true}
	return nil
}

// Set takes what a flag gives.
func (a *Address) Set(text string) error {
	return errors.Join(a.UnmarshalText([]byte(text)), a.Validate())
}

// String is the address as it was given.
func (a *Address) String() string { return a.Text }

// Type is what the help calls it.
func (a *Address) Type() string { return "address" }

// Validate refuses all but a loopback address with a port. There is no password
// on the metrics, and whether this host enforces at the moment is not for the
// network to know: a Prometheus elsewhere scrapes through an agent or proxy of
// this host.
func (a *Address) Validate() error {
	if a.Text == "" {
		return nil
	}
	at, err := netip.ParseAddrPort(a.Text)
	if err != nil || !at.Addr().IsLoopback() {
		return fmt.Errorf("metrics address %q: want a loopback address with a port, like 127.0.0.1:9741 or [::1]:9741, or '' for none (the metrics have no password: "+
			"reach them from elsewhere through an agent or a proxy of this host)", a.Text)
	}
	return nil
}

// listen opens the address.
func (a *Address) listen() (net.Listener, error) {
	if err := a.Validate(); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", a.Text)
	if err != nil {
		return nil, fmt.Errorf("metrics address %s: %w (another process has it? name another, or '' for none)", a.Text, err)
	}
	return l, nil
}
