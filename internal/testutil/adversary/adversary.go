// Package adversary is a hostile process: a static program that tries, from
// inside a container, every way to get a byte out that a Linux program has, and
// reports each as one line of JSON.
//
// What a technique itself reports is worth little: a packet that "was sent" may
// have been dropped. So each bears a Mark, in its destination, its destination
// port or its payload, by which whoever watches the wire tells whose frame it
// saw.
package adversary

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/egresswarden/egresswarden/internal/testutil/probe"
	"golang.org/x/sys/unix"
)

// Technique is one way.
type Technique struct {
	// Name and Family together are unique; Family is "4", "6", "mapped" and so
	// on, or "" where that says nothing.
	Name, Family string
	// How is one line, for people.
	How string
	// Needs is what the machine must have besides a usual kernel, such as a
	// module; a way that needs nothing must work where nothing stops it.
	Needs string
	// Cap is the capability that it takes; empty: a plain user can.
	Cap string
	// Allowed is sent where the policy of the tests allows it: it must arrive,
	// and shows that the watcher sees.
	Allowed bool
	// Phase is when it runs, see the constants.
	Phase Phase

	run func(*attempt) error
}

// Phase orders the techniques: those of one run beside each other, but for
// PhaseAdmin, which changes the network of all.
type Phase int

// The phases, in their order.
const (
	// PhaseFirst runs before all else and alone.
	PhaseFirst Phase = iota
	// PhaseOwn runs in a process of its own, beside others.
	PhaseOwn
	// PhaseMany is everything else.
	PhaseMany
	// PhaseAdmin runs at last and one by one.
	PhaseAdmin
	// PhaseStanding is for a run of its own, by the verb stand.
	PhaseStanding
)

// String is the name with the family.
func (t Technique) String() string {
	if t.Family == "" {
		return t.Name
	}
	return t.Name + " " + t.Family
}

// All lists the techniques; a Mark's number is an index into it.
func All() []Technique {
	return slices.Concat(
		controls(), dials(), streams(), datagrams(), places(), routed(), others(), pings(), raws(), packets(),
		kernelAnswers(), rings(), compat(), names(), handed(), peers(), tasks(), admins(), standings())
}

// Report is what a technique saw.
type Report struct {
	Technique string `json:"technique"`
	Family    string `json:"family,omitempty"`
	// Number is the Technique's index in All.
	Number int `json:"number"`
	// Errno is "ok", an error's name such as EPERM, or "none": it failed
	// otherwise, or could not be tried.
	Errno string `json:"errno"`
	// Step is the call that failed.
	Step   string `json:"step,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// Refused says that the kernel answered no at once.
func (r Report) Refused() bool { return r.Errno == "EPERM" || r.Errno == "EACCES" }

// Saw is what the application saw: ok, or the error with its call.
func (r Report) Saw() string {
	switch r.Errno {
	case "ok":
		return "ok"
	case "none":
		return r.Detail
	}
	return r.Step + ": " + r.Errno
}

func report(n int, t Technique, err error) Report {
	r := Report{Technique: t.Name, Family: t.Family, Number: n, Errno: "ok"}
	if err == nil {
		return r
	}
	r.Errno, r.Detail = "none", err.Error()
	if s := (*stepError)(nil); errors.As(err, &s) {
		r.Step = s.step
	}
	if no := unix.Errno(0); errors.As(err, &no) {
		r.Errno = unix.ErrnoName(no)
	}
	if p := (*probeError)(nil); errors.As(err, &p) {
		r.Step = p.Step
		if p.Errno != "" {
			r.Errno = p.Errno
		}
	}
	return r
}

// Parse reads the lines that the program writes.
func Parse(r io.Reader) ([]Report, error) {
	var all []Report
	for d := json.NewDecoder(r); ; {
		var one Report
		switch err := d.Decode(&one); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return all, fmt.Errorf("parse adversary output: %w", err)
		}
		all = append(all, one)
	}
}

// stepError is the call that failed.
type stepError struct {
	step string
	err  error
}

func (e *stepError) Error() string { return e.step + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

func step(name string, err error) error {
	if err == nil {
		return nil
	}
	return &stepError{name, err}
}

// probeError is a failure that the probe package reported.
type probeError struct{ probe.Result }

func (e *probeError) Error() string { return e.String() }
