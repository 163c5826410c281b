package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"

	daemon "github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/enforcer/doctor"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/docker"
	"github.com/egresswarden/egresswarden/internal/testutil/probe"
	"github.com/egresswarden/egresswarden/internal/testutil/world"
	"github.com/egresswarden/egresswarden/policy"
)

// place is a way to place a container.
type place struct {
	name string
	// network is Docker's word for it; sends is what the enforcer says of it.
	network, sends string
	tweak          func(*container.HostConfig)
	// raw leaves NET_RAW, which is dropped elsewhere.
	raw bool
	// privileged takes all capabilities, which the engine must have itself.
	privileged bool
	// families it reaches the world in.
	families string
	// open are words of each line that status and doctor have.
	open []string
	// stopped: it could not be started here.
	stopped bool
}

// workload is its name as a container's.
func (p place) workload() string {
	return strings.NewReplacer(" ", "-", "'", "", ",", "").Replace(p.name)
}

// spec is the container in a mode; an empty one is no label.
func (p place) spec(mode string) docker.Spec {
	labels := map[string]string{}
	if mode != "" {
		labels["egress"] = mode
	}
	return docker.Spec{
		Name: p.workload(), Labels: labels, Network: p.network, Cmd: []string{"stay"},
		Tweak: func(_ *container.Config, h *container.HostConfig) {
			if h.Privileged = p.privileged; !p.raw {
				h.CapDrop = []string{"NET_RAW"}
			}
			if p.tweak != nil {
				p.tweak(h)
			}
		},
	}
}

// lines are the openings that are told of it. Packet sockets are told of those
// that run where this kernel's gate does not refuse them.
func (p place) lines(packets bool) []string {
	return slices.DeleteFunc(slices.Clone(p.open), func(line string) bool { return !packets && strings.HasPrefix(line, "NET_RAW") })
}

// modesAllowed is what every container may reach, of each family.
var modesAllowed = map[byte]string{'4': "203.0.113.5:443", '6': "[2001:db8:a::5]:443"}

// modesHow are the ways to send that every placement is held against.
const modesHow = "tcp,udp_connected,udp_sendto,ping"

// stage is the network and the engine that containers are placed in.
type stage struct {
	*up
	// t is the whole test: containers live as long.
	t *testing.T
	// parent is a cgroup of the test's own, below the root.
	parent string
	// never sees what no container here may reach.
	never *world.Capture
	rows  int
	held  []place
	// refuses: this kernel's gate refuses packet sockets.
	refuses bool
}

// newStage starts everything, with an allow-list for all.
func newStage(t *testing.T, options ...docker.Option) *stage {
	t.Helper()
	m := &stage{up: newUpOn(t, options), t: t, parent: "/egwtest-parent"}
	t.Cleanup(func() { removeCgroups(t, m.parent) })
	for _, to := range modesAllowed {
		m.egw(t, "", "policy", "allow", policy.Everyone, addrPort(t, to).Addr().String(), "--reason", "e2e")
	}
	open, _ := m.status(t)
	m.refuses = len(open) == 0
	return m
}

// watch begins to look for what must not arrive.
func (m *stage) watch(t *testing.T) {
	t.Helper()
	m.never = m.world.Capture(t, netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:d::/48"))
}

// run starts a container of a place in a mode.
func (m *stage) run(p place, mode string) *docker.Container {
	m.t.Helper()
	return m.docker.Run(m.t, p.spec(mode))
}

// hold holds a blocked container of a place against its policy. What is said of
// it is for told.
func (m *stage) hold(t *testing.T, p place) *docker.Container {
	t.Helper()
	c := m.docker.Create(m.t, p.spec("block"))
	if p.stopped = p.privileged && !allCapabilities(t); p.stopped {
		t.Logf("this machine has not all capabilities: %s is not started", c.Name)
	} else {
		c.Start(t)
		m.refused(t, c, p.families)
	}
	m.held = append(m.held, p)
	return c
}

// refusedAt is what no container here may reach, another for each call.
func (m *stage) refusedAt() map[byte]string {
	m.rows++
	return map[byte]string{'4': fmt.Sprintf("198.51.100.%d:443", m.rows), '6': fmt.Sprintf("[2001:db8:d::%d]:443", m.rows)}
}

// refused holds that a container reaches what it may and nothing else.
func (m *stage) refused(t *testing.T, c *docker.Container, families string) {
	t.Helper()
	for _, family := range []byte(families) {
		testutil.Eventually(t, "the allow-list is in force for "+c.Name, func() error {
			for _, r := range c.Exec(t, "dial", "-how", modesHow, "-to", modesAllowed[family]) {
				if !r.OK {
					return errors.New(r.String())
				}
			}
			return nil
		})
	}
	for family, to := range m.refusedAt() {
		denied(t, family, families, c.Exec(t, append(modesRefused, to)...))
	}
}

// modesRefused is an attempt at what must not arrive; the address comes last.
var modesRefused = []string{"dial", "-timeout", "100ms", "-how", modesHow, "-to"}

// denied holds that every way was refused at once. The kernel tells nobody that
// a ping of IPv6 was dropped, so that it waits; and without a route no ping
// comes so far that it would be refused.
func denied(t *testing.T, family byte, families string, all []probe.Result) {
	t.Helper()
	silent := family == '6' || !strings.ContainsRune(families, rune(family))
	for _, r := range all {
		if r.OK || r.Errno != "EPERM" && (r.How != "ping" || !silent) {
			t.Error(r)
		}
	}
	if len(all) != 4 {
		t.Errorf("%d attempts of 4", len(all))
	}
}

// status is what the enforcer says of each workload.
func (m *stage) status(t *testing.T) (open []string, all map[string]daemon.WorkloadStatus) {
	t.Helper()
	var hosts []struct{ Status *daemon.Status }
	if err := json.Unmarshal([]byte(m.egw(t, "", "status", "-o", "json")), &hosts); err != nil || len(hosts) != 1 || hosts[0].Status == nil {
		t.Fatalf("egw status: %v, %+v", err, hosts)
	}
	all = map[string]daemon.WorkloadStatus{}
	for _, w := range hosts[0].Status.Workloads {
		all[w.Workload] = w
	}
	return hosts[0].Status.Open, all
}

// told holds what status and doctor say of the containers that were held.
func (m *stage) told(t *testing.T) {
	t.Helper()
	var all map[string]daemon.WorkloadStatus
	testutil.Eventually(t, "the enforcer knows which containers run", func() error {
		_, all = m.status(t)
		for _, p := range m.held {
			if w := all[p.workload()]; len(w.Containers) != 1 || w.Containers[0].Running == p.stopped {
				return fmt.Errorf("%s: %+v", p.name, w)
			}
		}
		return nil
	})
	text, found := m.egw(t, "", "status"), m.doctor(t)
	for _, p := range m.held {
		t.Run(p.name, func(t *testing.T) {
			want, sends := p.lines(!p.stopped && !m.refuses), p.sends
			if p.stopped {
				sends = ""
			}
			w, degraded := all[p.workload()], !p.stopped && len(want) > 0
			if got := w.Containers[0].Network; got != sends || w.Degraded != degraded {
				t.Errorf("network %q, degraded %v; want %q, %v", got, w.Degraded, sends, degraded)
			}
			sameLines(t, "status", w.Containers[0].Open, want)
			sameLines(t, "doctor", found[p.workload()], want)
			for _, line := range want {
				what, _, _ := strings.Cut(line, ":")
				if degraded && !strings.Contains(text, p.workload()+" is degraded: "+what) {
					t.Errorf("egw status does not tell of %s:\n%s", what, text)
				}
			}
		})
	}
}

// sameLines holds that each line begins with what the wanted one has before its
// first colon, and has the rest of that somewhere behind.
func sameLines(t *testing.T, who string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s says %q, want %q", who, got, want)
		return
	}
	for i, line := range want {
		what, words, _ := strings.Cut(line, ": ")
		if !strings.HasPrefix(got[i], what+": ") || !strings.Contains(got[i], words) {
			t.Errorf("%s says %q, want %q", who, got[i], line)
		}
	}
}

// doctor is what the doctor finds, by the containers' names.
func (m *stage) doctor(t *testing.T) map[string][]string {
	t.Helper()
	var checks []doctor.Check
	text := m.egw(t, "", "doctor", "--pins", loopPins, "--docker", "unix://"+m.docker.Socket, "-o", "json")
	if err := json.Unmarshal([]byte(text), &checks); err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, c := range checks {
		if name, ok := strings.CutPrefix(c.Name, "container "); ok {
			out[name] = append(out[name], c.Detail+"; cure: "+c.Cure)
		}
	}
	return out
}

// allCapabilities tells whether this machine may give a container every one.
func allCapabilities(t *testing.T) bool {
	t.Helper()
	last, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if _, err := fmt.Sscan(string(last), &n); err != nil {
		t.Fatal(err)
	}
	for c := range n + 1 {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err != nil || has != 1 {
			return false
		}
	}
	return true
}

// removeCgroups removes a cgroup of every hierarchy.
func removeCgroups(t *testing.T, name string) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		left, right, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(left); strings.HasPrefix(right, "cgroup") && len(fields) > 4 {
			if err := unix.Rmdir(filepath.Join(fields[4], name)); err != nil && !errors.Is(err, unix.ENOENT) {
				t.Errorf("remove %s of %s: %v", name, fields[4], err)
			}
		}
	}
}
