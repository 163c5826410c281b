package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// role is what a member has to bear.
type role struct {
	name, firewall string
	gated          bool // born under the gate
	// link: it sends by a link as well; walled: by one with the wall on it, and in
	// no other way.
	link, walled bool
}

// The members. The ratios are to plain.
const (
	plain, gated, onLink = "plain", "gate", "gate+link"
	noise, set, tracked  = "noise", "nftables", "nftables+ct"
)

var allRoles = []role{
	{name: plain, link: true},
	{name: gated, gated: true, link: true},
	{name: onLink, gated: true, link: true, walled: true},
	{name: noise, link: true},
	{name: set, firewall: "set"},
	{name: tracked, firewall: "conntrack"},
}

// has tells whether a turn is the role's.
func (r role) has(t turn) bool {
	if t.linked() {
		return r.link
	}
	return !r.walled
}

// member is a worker process.
type member struct {
	role
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	link *link
}

// start runs a worker that is born in its cgroup, in a new network namespace.
func (g *gate) start(r role, o options, n int) (*member, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cgroup := g.outside
	if r.gated {
		cgroup = g.inside
	}
	cmd := exec.Command(self, workerArg, strconv.Itoa(o.cpu), strconv.Itoa(n), r.firewall)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET, UseCgroupFD: true, CgroupFD: int(cgroup.Fd()), Pdeathsig: syscall.SIGKILL,
	}
	m := &member{role: r, cmd: cmd}
	if m.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	m.out = bufio.NewScanner(out)
	m.out.Buffer(nil, 1<<20)
	if _, err := m.answer(); err != nil {
		return nil, errors.Join(err, cmd.Wait())
	}
	return m, nil
}

func (m *member) do(t turn) ([]float64, error) {
	if t.linked() {
		return m.link.over(t, m.ask)
	}
	return m.ask(t)
}

func (m *member) ask(t turn) ([]float64, error) {
	if err := json.NewEncoder(m.in).Encode(t); err != nil {
		return nil, fmt.Errorf("%s: %w", m.name, err)
	}
	return m.answer()
}

func (m *member) answer() (times []float64, err error) {
	if !m.out.Scan() {
		return nil, fmt.Errorf("%s ended: %w", m.name, errors.Join(m.out.Err(), io.ErrUnexpectedEOF))
	}
	return times, json.Unmarshal(m.out.Bytes(), &times)
}
