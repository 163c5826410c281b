package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/docker"
	"github.com/egresswarden/egresswarden/internal/testutil/probe"
	"github.com/egresswarden/egresswarden/internal/testutil/world"
)

// requests is how many each server answers, over all ways to ask.
const requests = 1000

// asking are the ways in which clients ask.
var asking = []string{"tcp", "udp_connected", "udp_sendto"}

type server struct {
	family    string
	connected bool
	port      uint16
	c         *docker.Container
}

func (s server) String() string {
	return fmt.Sprintf("family %s, connected %v", s.family, s.connected)
}

// TestServe holds that a blocked container answers whoever speaks first, and
// still cannot speak first itself.
func TestServe(t *testing.T) {
	f := newFixture(t)
	f.write("server", "# nothing\n")
	f.enforcer.start(t)
	client := f.stay("client", "")
	servers := startServers(t, f)
	never := f.watch("203.0.113.201:443", "[2001:db8:d::1]:443")
	for _, s := range servers {
		t.Run(s.String(), func(t *testing.T) {
			inside := s.addrs(t, "dual")
			s.ask(t, "another container", inside, func(to []netip.AddrPort, rounds int) []probe.Tally {
				return askFrom(t, f, to, rounds)
			})
			s.ask(t, "outside", s.published(t), func(to []netip.AddrPort, rounds int) []probe.Tally {
				return askOutside(f, to, rounds)
			})
			own := []string{"203.0.113.201:443", "[2001:db8:d::1]:443"}
			for _, family := range []int{4, 6} {
				own = append(own, netip.AddrPortFrom(client.Addr(t, "dual", family), 9).String())
			}
			rs := s.c.Exec(t, "dial", "-how", strings.Join(asking, ","), "-to", strings.Join(own, ","))
			for _, r := range rs {
				if !r.Denied() {
					t.Errorf("the server's own attempt: %v", r)
				}
			}
			if want := len(asking) * len(own); len(rs) != want {
				t.Errorf("%d own attempts, want %d", len(rs), want)
			}
			nothing(t, never, s.String())
		})
	}
}

func startServers(t *testing.T, f *fixture) []server {
	t.Helper()
	var all []server
	for _, family := range []string{"4", "6", "dual"} {
		for _, connected := range []bool{false, true} {
			s := server{family: family, connected: connected, port: uint16(9000 + len(all))}
			s.run(t, f, "server")
			all = append(all, s)
		}
	}
	return all
}

// run starts the server, blocked under a policy, and waits until it listens.
func (s *server) run(t *testing.T, f *fixture, policy string) {
	t.Helper()
	cmd := []string{"serve", "-family", s.family, "-port", fmt.Sprint(s.port)}
	if s.connected {
		cmd = append(cmd, "-connected")
	}
	s.c = f.docker.Run(t, docker.Spec{
		Name: fmt.Sprintf("server-%d", s.port), Network: "dual", Cmd: cmd,
		Labels:  map[string]string{"egress": "block", "egress.policy": policy},
		Publish: []string{fmt.Sprintf("%d/tcp", s.port), fmt.Sprintf("%d/udp", s.port)},
	})
	testutil.Eventually(t, "the server listens", func() error {
		if s.c.Logs(t) == "" {
			return errors.New("it has not said so")
		}
		return nil
	})
}

// addrs are where the server listens, on its network.
func (s server) addrs(t *testing.T, network string) []netip.AddrPort {
	t.Helper()
	var all []netip.AddrPort
	for _, family := range []int{4, 6} {
		if s.family == "dual" || s.family == fmt.Sprint(family) {
			all = append(all, netip.AddrPortFrom(s.c.Addr(t, network, family), s.port))
		}
	}
	return all
}

// published are where the world finds the server: IPv4 by the published port,
// IPv6 by its own address.
func (s server) published(t *testing.T) []netip.AddrPort {
	t.Helper()
	all := s.addrs(t, "dual")
	for i, a := range all {
		if a.Addr().Is4() {
			all[i] = netip.AddrPortFrom(world.HostAddr4, s.port)
		}
	}
	return all
}

func (s server) ask(t *testing.T, who string, to []netip.AddrPort, do func([]netip.AddrPort, int) []probe.Tally) {
	t.Helper()
	rounds := (requests + len(asking)*len(to) - 1) / (len(asking) * len(to))
	total := 0
	for _, tally := range do(to, rounds) {
		total += tally.OK
		if tally.OK != rounds || tally.Attempts != rounds {
			t.Errorf("%s asks: %+v, want %d answers", who, tally, rounds)
		}
	}
	if total < requests {
		t.Errorf("%s: %d answers, want %d", who, total, requests)
	}
	t.Logf("%s: %s asks: %d of %d answered", s, who, total, rounds*len(asking)*len(to))
}

// askFrom asks from a container that is not managed.
func askFrom(t *testing.T, f *fixture, to []netip.AddrPort, rounds int) []probe.Tally {
	t.Helper()
	c := f.docker.Run(t, docker.Spec{
		Name: fmt.Sprintf("asking-%d", to[0].Port()), Network: "dual",
		Cmd: []string{"loop", "-how", strings.Join(asking, ","), "-to", join(to), "-rounds", fmt.Sprint(rounds)},
	})
	return output(t, c)
}

func askOutside(f *fixture, to []netip.AddrPort, rounds int) (all []probe.Tally) {
	f.outside(func() {
		var targets []probe.Target
		for _, how := range asking {
			for _, a := range to {
				targets = append(targets, probe.Target{How: how, To: a})
			}
		}
		all = probe.Loop(context.Background(), targets, rounds, 0, time.Minute)
	})
	return all
}

func join(to []netip.AddrPort) string {
	var texts []string
	for _, a := range to {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ",")
}
