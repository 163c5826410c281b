package delivery

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/docker"
	"github.com/egresswarden/egresswarden/internal/testutil/probe"
)

// load is a container that makes decisions.
type load struct {
	c *docker.Container
	// workload is its policy too.
	workload string
}

// flood describes one: what the probe floods, and how.
type flood struct{ name, mode, args string }

// floods make three kinds of decisions: some allowed, some that would be
// denied, many denied again and again, and more denied destinations than the
// flow table holds.
var floods = []flood{
	{"learn", "learn", "-to 198.18.0.0/15 -count 200 -pause 40ms"},
	{"block", "block", "-to 192.168.0.0/20 -count 400 -pause 10ms"},
	{"scan", "block", "-to 192.168.64.0/18 -count 5000 -pause 2s"},
}

// allowed is the allow-list of each: half of what the learning one floods.
const allowed = "198.18.0.0/25\n"

// start runs a flood in a container that the gate knows before it starts. The
// workload is named after the test's part.
func (c *crew) start(t *testing.T, part string, f flood) *load {
	t.Helper()
	l := &load{workload: part + "-" + f.name}
	aside := filepath.Join(c.dir, "new.rules")
	err := errors.Join(
		os.WriteFile(aside, []byte(allowed), 0o644),
		os.Rename(aside, filepath.Join(c.policies(), l.workload+".rules")))
	if err != nil {
		t.Fatal(err)
	}
	l.c = c.docker.Create(t, docker.Spec{
		Name: l.workload, Labels: map[string]string{"egress": f.mode, "egress.policy": l.workload},
		Cmd: append([]string{"flood"}, strings.Fields(f.args)...),
	})
	testutil.Eventually(t, "the gate knows "+l.workload, func() error {
		g := c.gate(t)
		defer g.Close()
		all, err := g.Containers()
		if _, ok := all[l.c.ID]; !ok {
			return errors.Join(err, errors.New("it does not"))
		}
		return nil
	})
	l.c.Start(t)
	return l
}

// stop ends the container and gives what its program made.
func (l *load) stop(t *testing.T) probe.Tally {
	t.Helper()
	l.c.Stop(t)
	l.c.Wait(t)
	var all []probe.Tally
	testutil.Eventually(t, "the tally of "+l.workload, func() (err error) {
		all, err = probe.ParseTallies(strings.NewReader(l.c.Logs(t)))
		if err == nil && len(all) != 1 {
			err = fmt.Errorf("%d tallies", len(all))
		}
		return err
	})
	return all[0]
}
