// Package probe is what runs inside the containers and cgroups of tests: a
// static program that dials in every way a Linux program can, serves, and
// resolves, and reports each attempt as one line of JSON.
package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Result is one attempt.
type Result struct {
	How string `json:"how"`
	To  string `json:"to"`
	// OK: the bytes went there and came back.
	OK bool `json:"ok"`
	// Step is the system call that failed, Errno its error by name, such as
	// EACCES, and Error the whole text.
	Step  string `json:"step,omitempty"`
	Errno string `json:"errno,omitempty"`
	Error string `json:"error,omitempty"`
	// Unavailable: this machine cannot do it that way, so nothing was tried.
	Unavailable bool `json:"unavailable,omitempty"`
	// Ns is how long it took, StartNs when it began by CLOCK_MONOTONIC.
	Ns      int64 `json:"ns"`
	StartNs int64 `json:"start_ns"`
	// Addrs is what resolve found.
	Addrs []string `json:"addrs,omitempty"`
}

// Denied says that the gate refused: EPERM or EACCES at the call that sends.
func (r Result) Denied() bool {
	return !r.OK && !r.Unavailable && (r.Errno == "EPERM" || r.Errno == "EACCES")
}

// String is short, for test output.
func (r Result) String() string {
	switch {
	case r.OK:
		return fmt.Sprintf("%s %s: ok", r.How, r.To)
	case r.Unavailable:
		return fmt.Sprintf("%s %s: unavailable: %s", r.How, r.To, r.Error)
	}
	return fmt.Sprintf("%s %s: %s: %s", r.How, r.To, r.Step, r.Error)
}

// Parse reads the lines that the program writes.
func Parse(r io.Reader) ([]Result, error) {
	var all []Result
	for d := json.NewDecoder(r); ; {
		var one Result
		switch err := d.Decode(&one); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return all, fmt.Errorf("parse probe output: %w", err)
		}
		all = append(all, one)
	}
}

// stepError is the system call that failed.
type stepError struct {
	step string
	err  error
}

func (e *stepError) Error() string { return e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

func step(name string, err error) error {
	if err == nil {
		return nil
	}
	return &stepError{name, err}
}

// errUnavailable marks a technique that the machine does not have.
var errUnavailable = errors.New("unavailable")

// Dial makes one attempt.
func Dial(how string, to netip.AddrPort, timeout time.Duration) Result {
	r := Result{How: how, To: to.String(), StartNs: Monotonic()}
	do := techniques[how]
	if do == nil {
		r.Step, r.Error = "probe", "unknown technique"
		return r
	}
	r.fill(do(to, timeout))
	r.Ns = Monotonic() - r.StartNs
	return r
}

func (r *Result) fill(err error) {
	if err == nil {
		r.OK = true
		return
	}
	r.Error = err.Error()
	r.Unavailable = errors.Is(err, errUnavailable)
	if s := (*stepError)(nil); errors.As(err, &s) {
		r.Step = s.step
	}
	if no := unix.Errno(0); errors.As(err, &no) {
		r.Errno = unix.ErrnoName(no)
	}
}

// Monotonic is the time of StartNs.
func Monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}
