package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/docker"
	"github.com/egresswarden/egresswarden/internal/testutil/probe"
	"github.com/egresswarden/egresswarden/internal/testutil/world"
)

// pinDir is the tests' own: an enforcer of the machine's is not disturbed.
const pinDir = "/sys/fs/bpf/egwtest"

// web is the policy of most containers here, and rules its allow-list.
const (
	web   = "web"
	rules = `203.0.113.0/25
2001:db8:a::/48
198.51.100.0/24 tcp/443,udp/53  # ports
deny 203.0.113.66
`
)

// Destinations that the allow-list admits.
var admitted = []string{
	"203.0.113.5:443", "[::ffff:203.0.113.5]:443", "[2001:db8:a::5]:443",
}

// fixture is everything that runs: the world, Docker and the enforcer.
type fixture struct {
	t        *testing.T
	world    *world.World
	docker   *docker.Daemon
	enforcer *enforcer
	// socket is where the enforcer finds Docker, dir where its files are.
	dir string
}

// newFixture starts all but the enforcer.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	testutil.Privileged(t)
	began := time.Now()
	detach(t) // what a crashed test left
	w := world.New(t)
	f := &fixture{t: t, world: w, docker: docker.Start(t, w), dir: t.TempDir()}
	f.docker.DualNetwork(t, "dual")
	t.Logf("the world and docker stand in %s", took(began))
	f.enforcer = newEnforcer(t, w, f.dir, f.docker.Socket)
	f.write(web, rules)
	return f
}

// detach takes the gate off, in the end too: the machine is left as it was.
func detach(t *testing.T) {
	t.Helper()
	off := func() {
		if _, err := bpf.Detach(pinDir); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("detach: %v", err)
		}
		_ = os.Remove(pinDir)
	}
	off()
	t.Cleanup(off)
}

// write puts a policy's allow-list into the enforcer's folder.
func (f *fixture) write(policy, text string) {
	f.t.Helper()
	if err := f.put(policy, text); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) put(policy, text string) error {
	dir := filepath.Join(f.dir, "policies")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	aside := filepath.Join(f.dir, policy+".new")
	if err := os.WriteFile(aside, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(aside, filepath.Join(dir, policy+".rules"))
}

// labels are those of a container in a mode, under the policy web. An empty
// mode is no label at all.
func labels(mode string) map[string]string {
	if mode == "" {
		return map[string]string{}
	}
	return map[string]string{"egress": mode, "egress.policy": web}
}

// stay runs a container that waits for what is executed in it.
func (f *fixture) stay(name, mode string) *docker.Container {
	f.t.Helper()
	return f.docker.Run(f.t, docker.Spec{
		Name: name, Labels: labels(mode), Cmd: []string{"stay"}, Network: "dual", Restart: true,
	})
}

// ready waits until the allow-list is in force for a container in block mode.
func (f *fixture) ready(c *docker.Container) {
	f.t.Helper()
	began := time.Now()
	defer func() { f.t.Logf("the allow-list is in force for %s in %s", c.Name, took(began)) }()
	testutil.Eventually(f.t, "the allow-list is in force for "+c.Name, func() error {
		for _, r := range c.Exec(f.t, "dial", "-to", strings.Join(admitted, ",")) {
			if !r.OK {
				return errors.New(r.String())
			}
		}
		return nil
	})
}

// output waits for what a container that has ended wrote.
func output(t *testing.T, c *docker.Container) []probe.Tally {
	t.Helper()
	c.Wait(t)
	var all []probe.Tally
	testutil.Eventually(t, "the output of "+c.Name, func() (err error) {
		all, err = probe.ParseTallies(strings.NewReader(c.Logs(t)))
		if err == nil && len(all) == 0 {
			err = errors.New("nothing was written")
		}
		return err
	})
	return all
}

// gate opens what the enforcer has pinned, to look at it.
func (f *fixture) gate(t *testing.T) *bpf.Gate {
	t.Helper()
	g, err := bpf.Open(bpf.Options{PinDir: pinDir})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// outside runs fn where clients from the internet are.
func (f *fixture) outside(fn func()) {
	f.t.Helper()
	err := f.world.World.Do(func() error {
		fn()
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// watch captures what arrives for the addresses.
func (f *fixture) watch(addrs ...string) *world.Capture {
	f.t.Helper()
	var ps []netip.Prefix
	for _, a := range addrs {
		ip := netip.MustParseAddrPort(a).Addr().Unmap()
		ps = append(ps, netip.PrefixFrom(ip, ip.BitLen()))
	}
	slices.SortFunc(ps, netip.Prefix.Compare)
	return f.world.Capture(f.t, slices.Compact(ps)...)
}

// nothing fails the test when the capture saw a packet.
func nothing(t *testing.T, c *world.Capture, when string) {
	t.Helper()
	for k, n := range c.Seen(t) {
		t.Errorf("%s: %d packets arrived, %s", when, n, k)
	}
}

// took is for reports.
func took(since time.Time) string {
	return fmt.Sprintf("%.1f s", time.Since(since).Seconds())
}
