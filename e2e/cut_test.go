package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/build"
	"github.com/egresswarden/egresswarden/internal/testutil/probe"
	"github.com/egresswarden/egresswarden/operator"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

const (
	// held is the policy of the containers whose connections are cut.
	held = "held"
	// heldRules allow what is taken away, and standRule what never is.
	heldRules = "203.0.113.5\n2001:db8:a::5\n"
	standRule = "203.0.113.6\n"
	// holdCuts are the ways to hold a connection that a revocation cuts.
	holdCuts = "tcp_idle,tcp_stream,udp_connected"
	// heldTCP of heldAll connections are TCP; the last wall may refuse a datagram
	// of the others, whose socket the application then closes itself.
	heldTCP, heldAll = 6, 8
	// cutRounds is how often connections are made and cut.
	cutRounds = 12
	// cutChanges are made to the policy of a server that is being asked.
	cutChanges = 1000
)

var connectionsCut = regexp.MustCompile(`(\d+) connections? cut`)

// TestStandingConnections holds that a connection ends when its policy does,
// and no other one.
func TestStandingConnections(t *testing.T) {
	f := newFixture(t)
	early := f.hold("early", labels("block"), "tcp_idle,udp_connected", "203.0.113.5:443", "203.0.113.66:443")
	early.stands(t, "203.0.113.5", "203.0.113.66")
	f.enforcer.start(t)
	early.ends(t, 0, "203.0.113.66")

	c := cutting{fixture: f, log: f.enforcer.events(t), egw: build.Binary(t, "cmd/egw")}
	block := map[string]string{"egress": "block", "egress.policy": held}
	c.rules(t, standRule)
	c.holders = []*holder{
		f.hold("holder", block, holdCuts, "203.0.113.5:443", "[2001:db8:a::5]:443"),
		// UDP to a mapped address is judged by each send.
		f.hold("mapped", block, "tcp_idle,tcp_stream", "[::ffff:203.0.113.5]:443"),
	}
	stays := f.hold("stays", block, holdCuts+",udp_unconnected", "203.0.113.6:443")
	neighbour := f.holdIn("container:holder", "neighbour", nil, "tcp_idle,udp_connected", "203.0.113.5:443")
	stays.stands(t, "203.0.113.6")
	neighbour.stands(t, "203.0.113.5")

	t.Run("a rule is taken away", c.rounds)
	t.Run("what is kept stands over a restart", c.kept)
	t.Run("a timed rule ends", c.timed)
	t.Run("a mode becomes block", c.mode)
	t.Run("the files change while the enforcer is dead", func(t *testing.T) {
		for _, r := range early.ended(t, 0, "203.0.113.5") {
			if !refusedByLastWall(r) { // a gate without a policy yet refuses
				t.Errorf("a connection that the files allow was cut before: %v", r)
			}
		}
		f.enforcer.kill()
		f.write(web, "198.51.100.0/24\n")
		since := probe.Monotonic()
		f.enforcer.start(t)
		early.ends(t, since, "203.0.113.5")
	})
	for _, h := range []*holder{stays, neighbour} {
		if ended := h.ended(t, 0, ""); len(ended) != 0 {
			t.Errorf("connections of %s ended: %v", h.Name, ended)
		}
	}
}

// cutting is what the parts of the test share.
type cutting struct {
	*fixture
	log *eventlog.Log
	egw string
	// holders have six connections that heldRules allow, and two more.
	holders []*holder
}

func (c cutting) stand(t *testing.T, to string) {
	t.Helper()
	for _, h := range c.holders {
		h.stands(t, to)
	}
}

func (c cutting) end(t *testing.T, since int64, to string) (all []probe.Result) {
	t.Helper()
	for _, h := range c.holders {
		all = append(all, h.ends(t, since, to)...)
	}
	return all
}

// rules replaces the operators' rules of held.
func (c cutting) rules(t *testing.T, text string) {
	t.Helper()
	rules, err := policy.ParseFile("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	d, err := operator.Open(t.Context(), c.log, "e2e", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	draft, err := d.Import(held, "test", "", rules, "")
	if err == nil {
		_, err = d.Append(t.Context(), draft)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// run runs egw and gives what it prints.
func (c cutting) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(c.egw, append(args, "--nats", "unix://"+c.enforcer.socket)...).CombinedOutput()
	if err != nil {
		t.Fatalf("egw %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// says fails the test when the text does not tell.
func says(t *testing.T, text, want string) {
	t.Helper()
	if !strings.Contains(text, want) {
		t.Errorf("%q is missing in:\n%s", want, text)
	}
}

// rounds measures the time from the append to the application's error.
func (c cutting) rounds(t *testing.T) {
	var all []time.Duration
	refused := 0
	for range cutRounds {
		c.rules(t, standRule+heldRules)
		c.stand(t, "")
		since := probe.Monotonic()
		c.rules(t, standRule)
		for _, r := range c.end(t, since, "") {
			all = append(all, time.Duration(r.StartNs-since))
			switch {
			case refusedByLastWall(r):
				refused++ // and closed, before the enforcer looked
			case !slices.Contains([]string{"ECONNABORTED", "EPIPE", "EDESTADDRREQ"}, r.Errno):
				t.Errorf("the application sees %v", r)
			}
		}
	}
	slices.Sort(all)
	t.Logf("from the append to the error, %d connections: p50 %v, p99 %v, most %v",
		len(all), all[len(all)/2], all[len(all)*99/100], all[len(all)-1])
	told := uint64(0)
	for e, err := range c.log.HostEvents(t.Context(), eventlog.HostQuery{Host: host}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.GetKind() == "connections.cut" && e.GetWorkload() == held {
			told += e.GetCount()
		}
	}
	if told+uint64(refused) < uint64(len(all)) {
		t.Errorf("%d connections ended, the host's events tell of %d, the last wall refused %d", len(all), told, refused)
	}
}

// refusedByLastWall tells whether a datagram was refused before its socket was cut.
func refusedByLastWall(r probe.Result) bool {
	return r.How == "udp_connected" && r.Errno == "EPERM"
}

func (c cutting) kept(t *testing.T) {
	c.rules(t, standRule+heldRules)
	c.stand(t, "")
	since := probe.Monotonic()
	says(t, c.run(t, "policy", "rm", held, "203.0.113.5/32", "--keep-established"), "5 connections kept")
	says(t, c.run(t, "policy", "history", held), "established connections kept")
	c.enforcer.stop(t)
	c.enforcer.start(t)
	c.log = c.enforcer.events(t)
	applied(t, c.log)
	for _, h := range c.holders {
		if ended := h.ended(t, since, ""); len(ended) != 0 {
			t.Errorf("connections that were to be kept ended: %v", ended)
		}
	}
	out := c.run(t, "policy", "rm", held, "2001:db8:a::5/128")
	cut := 0
	if m := connectionsCut.FindStringSubmatch(out); m != nil {
		cut, _ = strconv.Atoi(m[1])
	}
	if cut < heldTCP || cut > heldAll {
		t.Errorf("it tells of %d connections cut, want %d to %d:\n%s", cut, heldTCP, heldAll, out)
	}
	c.end(t, since, "")
}

func (c cutting) timed(t *testing.T) {
	c.run(t, "policy", "allow", held, "203.0.113.5", "--ttl", "6s")
	c.stand(t, "203.0.113.5")
	since := probe.Monotonic()
	c.end(t, since, "203.0.113.5")
}

func (c cutting) mode(t *testing.T) {
	c.run(t, "mode", held, "learn")
	c.stand(t, "")
	since := probe.Monotonic()
	var done struct {
		Connections struct{ Hosts, Cut, Kept int }
	}
	out := c.run(t, "mode", held, "block", "--yes", "-o", "json")
	_, document, _ := strings.Cut(out, "\n{")
	if err := json.Unmarshal([]byte("{"+document), &done); err != nil {
		t.Fatalf("%v in:\n%s", err, out)
	}
	if n := done.Connections.Cut; done.Connections.Hosts != 1 || n < heldTCP || n > heldAll || done.Connections.Kept != 0 {
		t.Errorf("egw mode tells %+v, want %d to %d cut on 1 host", done.Connections, heldTCP, heldAll)
	}
	c.end(t, since, "")
}

// TestAServerServesThroughChanges holds that what others connected to a
// blocked container outlives any number of changes.
func TestAServerServesThroughChanges(t *testing.T) {
	f := newFixture(t)
	f.enforcer.start(t)
	log := f.enforcer.events(t)
	var to []string
	for i, connected := range []bool{false, true} {
		s := server{family: "dual", connected: connected, port: uint16(9100 + i)}
		s.run(t, f, "held-server")
		for _, a := range s.published(t) {
			to = append(to, a.String())
		}
	}
	// A server that answers from connected sockets takes one client at a time.
	holds := []*client{
		f.client(t, "hold", "-how", "tcp_idle,tcp_stream", "-to", strings.Join(to, ",")),
		f.client(t, "hold", "-how", "udp_connected", "-to", strings.Join(to[:2], ",")),
	}
	for i, want := range []int{2 * len(to), 2} {
		testutil.Eventually(t, "the clients stand", func() error {
			if n := len(holds[i].results(t)); n < want {
				return fmt.Errorf("%d of %d", n, want)
			}
			return nil
		})
	}
	loop := f.client(t, "loop", "-how", "tcp,udp_sendto", "-to", strings.Join(to, ","), "-timeout", "60s")
	began := time.Now()
	for i, last := 0, uint64(0); i < cutChanges; i++ {
		rule := &schemas.Rule{Text: fmt.Sprintf("192.0.2.%d", i%200)}
		e := &schemas.PolicyEvent{Policy: "held-server", Actor: "e2e", Change: &schemas.PolicyEvent_RulesImported{
			RulesImported: &schemas.RulesImported{Rules: []*schemas.Rule{rule}}}}
		var err error
		if last, err = log.AppendPolicy(t.Context(), e, last); err != nil {
			t.Fatal(err)
		}
	}
	applied(t, log)
	t.Logf("%d changes in %s", cutChanges, took(began))
	loop.end(t)
	tallies, err := probe.ParseTallies(strings.NewReader(loop.out.String()))
	if err != nil || len(tallies) == 0 {
		t.Fatalf("%d tallies, %v", len(tallies), err)
	}
	for _, y := range tallies {
		if y.OK != y.Attempts || y.OK == 0 {
			t.Errorf("new requests: %+v", y)
		}
		t.Logf("%s to %s: %d of %d", y.How, y.To, y.OK, y.Attempts)
	}
	for _, hold := range holds {
		for _, r := range hold.results(t) {
			if !r.OK {
				t.Errorf("a standing connection ended: %v", r)
			}
		}
		hold.end(t)
	}
}
