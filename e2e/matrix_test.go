package e2e

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil/docker"
	"github.com/egresswarden/egresswarden/internal/testutil/probe"
)

// expectation is one line of the matrix.
type expectation struct {
	transport, to string
	// refused: block mode denies it.
	refused bool
}

// matrix has %d where the container's own number goes, so that the capture
// knows whose packet it is that it should not have seen.
var matrix = []expectation{
	{"tcp", "203.0.113.%d:443", false},
	{"udp", "203.0.113.%d:443", false},
	{"tcp", "[::ffff:203.0.113.%d]:443", false},
	{"udp", "[::ffff:203.0.113.%d]:443", false},
	{"tcp", "[2001:db8:a::%d]:443", false},
	{"udp", "[2001:db8:a::%d]:443", false},
	{"tcp", "198.51.100.%d:443", false},
	{"udp", "198.51.100.%d:53", false},

	{"tcp", "203.0.113.20%d:443", true},
	{"udp", "203.0.113.20%d:443", true},
	{"tcp", "[::ffff:203.0.113.21%d]:443", true},
	{"udp", "[::ffff:203.0.113.21%d]:443", true},
	{"tcp", "[2001:db8:d::%d]:443", true},
	{"udp", "[2001:db8:d::%d]:443", true},
	{"tcp", "198.51.100.2%d:80", true},
	{"udp", "198.51.100.2%d:443", true},
	{"udp", "192.168.7.%d:53", true},
}

// shared are destinations without a number: only block mode dials them.
var shared = []expectation{
	{"tcp", "203.0.113.66:443", true},
	{"tcp", "[::ffff:203.0.113.66]:443", true},
	{"tcp", "169.254.169.254:80", true},
	{"udp", "169.254.169.254:80", true},
	{"tcp", "[fd00:ec2::254]:80", true},
	{"tcp", "1.1.1.1:53", true},
	{"udp", "1.1.1.1:53", true},
	{"udp", "[2606:4700:4700::1111]:53", true},
}

// subject is one container of the matrix.
type subject struct {
	mode  string
	c     *docker.Container
	lines []expectation
}

func newSubject(f *fixture, n int, mode string) subject {
	s := subject{mode: mode, c: f.stay("matrix-"+cmp.Or(mode, "unlabelled"), mode)}
	for _, e := range matrix {
		e.to = fmt.Sprintf(e.to, n)
		s.lines = append(s.lines, e)
	}
	if mode == "block" {
		s.lines = append(s.lines, shared...)
	}
	return s
}

// TestMatrix holds every way to send against every kind of destination, in
// each mode, and again after everything that can restart has.
func TestMatrix(t *testing.T) {
	f := newFixture(t)
	f.enforcer.start(t)
	var all []subject
	for i, mode := range []string{"block", "learn", "allow", ""} {
		all = append(all, newSubject(f, i+1, mode))
	}
	f.ready(all[0].c)
	var forbidden, loud []string
	for _, e := range all[0].lines {
		if e.refused {
			forbidden = append(forbidden, e.to)
		}
	}
	for _, e := range all[1].lines {
		loud = append(loud, e.to)
	}
	never, always := f.watch(forbidden...), f.watch(loud...)

	round := func(when string) {
		for _, s := range all {
			s.dial(t, when)
		}
		nothing(t, never, when)
	}
	round("at first")
	for _, s := range all {
		s.c.Restart(t)
	}
	round("after the containers restarted")
	f.enforcer.kill()
	round("while the enforcer is dead")
	f.enforcer.start(t)
	round("after the enforcer was killed and started")
	f.enforcer.stop(t)
	f.enforcer.start(t)
	round("after the enforcer restarted")
	f.docker.Restart(t)
	for _, s := range all {
		s.c.Running(t)
	}
	round("after docker restarted")

	if len(always.Seen(t)) == 0 {
		t.Error("the capture saw nothing of the learning container either: it proves nothing")
	}
}

// dial makes every attempt, in one process for each transport, and prints a
// line for each expectation.
func (s subject) dial(t *testing.T, when string) {
	t.Helper()
	for _, transport := range []string{"tcp", "udp"} {
		var lines []expectation
		var to []string
		for _, e := range s.lines {
			if e.transport == transport {
				lines, to = append(lines, e), append(to, e.to)
			}
		}
		ways := probe.Techniques(transport)
		rs := s.c.Exec(t, "dial", "-how", strings.Join(ways, ","), "-to", strings.Join(to, ","))
		if len(rs) != len(ways)*len(to) {
			t.Errorf("%s: %d results of %d", when, len(rs), len(ways)*len(to))
		}
		for _, e := range lines {
			s.judge(t, when, e, rs)
		}
	}
}

func (s subject) judge(t *testing.T, when string, e expectation, rs []probe.Result) {
	t.Helper()
	refused := e.refused && s.mode == "block"
	did := 0
	for _, r := range rs {
		switch {
		case r.To != e.to || r.Unavailable:
		case refused && !r.Denied(), !refused && !r.OK:
			t.Errorf("%s, %s: %v; want refused %v", when, cmp.Or(s.mode, "unlabelled"), r, refused)
		default:
			did++
		}
	}
	word := map[bool]string{true: "refused", false: "passed"}[refused]
	t.Logf("%-40s %-10s %s %-32s %s in %d ways", when, cmp.Or(s.mode, "unlabelled"), e.transport, e.to, word, did)
}

// TestMatrixIsComplete keeps the matrix honest about the ways that exist.
func TestMatrixIsComplete(t *testing.T) {
	want := []string{
		"tcp", "tcp_fastopen_connect", "tcp_fastopen_sendto", "tcp_mptcp", "tcp_nonblocking", "tcp_uring",
		"udp_connected", "udp_reconnected", "udp_sendmmsg", "udp_sendmsg", "udp_sendto", "udp_v4_on_v6",
	}
	if got := append(probe.Techniques("tcp"), probe.Techniques("udp")...); !slices.Equal(got, want) {
		t.Errorf("ways %v, want %v", got, want)
	}
}
