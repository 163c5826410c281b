package e2e

import (
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	daemon "github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/build"
	"github.com/egresswarden/egresswarden/internal/testutil/docker"
	"github.com/egresswarden/egresswarden/internal/testutil/probe"
)

// applied waits until the enforcer has put the log in force and has looked at
// the connections.
func applied(t *testing.T, l *eventlog.Log) {
	t.Helper()
	revision, err := l.PolicyRevision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	question, err := json.Marshal(daemon.AppliedRequest{Revision: revision})
	if err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, "the log is in force", func() error {
		_, err := l.Ask(t.Context(), host, daemon.AskApplied, question)
		return err
	})
}

// holder is a container that holds connections and writes how they are.
type holder struct {
	*docker.Container
	// keys are its connections, as how and where to.
	keys []string
}

func (f *fixture) hold(name string, labels map[string]string, how string, to ...string) *holder {
	f.t.Helper()
	return f.holdIn("dual", name, labels, how, to...)
}

func (f *fixture) holdIn(network, name string, labels map[string]string, how string, to ...string) *holder {
	f.t.Helper()
	h := &holder{Container: f.docker.Run(f.t, docker.Spec{
		Name: name, Labels: labels, Network: network, Cmd: []string{"hold", "-how", how, "-to", strings.Join(to, ",")},
	})}
	for how := range strings.SplitSeq(how, ",") {
		for _, to := range to {
			h.keys = append(h.keys, how+" "+to)
		}
	}
	return h
}

func (h *holder) results(t *testing.T) []probe.Result {
	t.Helper()
	rs, err := probe.Parse(strings.NewReader(h.Logs(t)))
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// of are the results of the connections to an address, of all for "", after a
// time, by connection.
func (h *holder) of(t *testing.T, since int64, to string) map[string][]probe.Result {
	t.Helper()
	all := map[string][]probe.Result{}
	for _, key := range h.keys {
		if strings.Contains(key, to) {
			all[key] = nil
		}
	}
	for _, r := range h.results(t) {
		key := r.How + " " + r.To
		if _, ok := all[key]; ok && r.StartNs > since {
			all[key] = append(all[key], r)
		}
	}
	return all
}

// stands waits until every connection stands.
func (h *holder) stands(t *testing.T, to ...string) {
	t.Helper()
	testutil.Eventually(t, h.Name+" has its connections", func() error {
		for _, to := range to {
			for key, rs := range h.of(t, 0, to) {
				if len(rs) == 0 || !rs[len(rs)-1].OK {
					return errors.New(key + " does not stand")
				}
			}
		}
		return nil
	})
}

// ends waits until every connection has ended, and gives how.
func (h *holder) ends(t *testing.T, since int64, to string) (out []probe.Result) {
	t.Helper()
	testutil.Eventually(t, "the connections of "+h.Name+" end", func() error {
		out = nil
		for key, rs := range h.of(t, since, to) {
			if len(rs) == 0 || rs[len(rs)-1].OK {
				return errors.New(key + " stands")
			}
			out = append(out, rs[len(rs)-1])
		}
		return nil
	})
	return out
}

// ended are the connections that have.
func (h *holder) ended(t *testing.T, since int64, to string) (out []probe.Result) {
	t.Helper()
	for _, rs := range h.of(t, since, to) {
		out = append(out, slices.DeleteFunc(rs, func(r probe.Result) bool { return r.OK })...)
	}
	return out
}

// client is a probe program in the world outside.
type client struct {
	cmd *exec.Cmd
	out lines
}

// client starts the probe program outside, until the test ends.
func (f *fixture) client(t *testing.T, args ...string) *client {
	t.Helper()
	c := &client{cmd: exec.Command(build.Binary(t, "internal/testutil/probe/cmd"), args...)}
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.out
	if err := f.world.World.Start(c.cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
	return c
}

// end has the program finish what it does.
func (c *client) end(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("%s: %v", c.cmd, err)
	}
}

func (c *client) results(t *testing.T) []probe.Result {
	t.Helper()
	rs, err := probe.Parse(strings.NewReader(c.out.String()))
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// lines takes what a program writes, and gives its whole lines.
type lines struct {
	mu   sync.Mutex
	text []byte
}

// Write adds to the text.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	return len(p), nil
}

// String is the text up to the last whole line.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := string(l.text)
	return text[:strings.LastIndexByte(text, '\n')+1]
}
