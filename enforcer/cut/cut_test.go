package cut

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/cgroup"
	"github.com/egresswarden/egresswarden/policy"
)

// street is a namespace with a container and others in it.
type street struct {
	container, peer, caller *process
	target                  Target
}

func newStreet(t *testing.T) *street {
	t.Helper()
	testutil.Privileged(t)
	own, others := cgroup.New(t), cgroup.New(t)
	nested := own.Child(t, "nested")
	s := &street{peer: start(t, others, "peer", nil)}
	s.container = start(t, nested, "container", s.peer)
	s.caller = start(t, others, "caller", s.peer)
	s.target = Target{
		Cgroups: map[uint64]string{own.ID: own.Path, nested.ID: nested.Path},
		Refused: func(_ netip.Addr, _ policy.Proto, port uint16) (bool, error) {
			return port > 7000 && port != portAllowed, nil
		},
	}
	if got := s.container.look(t); len(got) != 13 {
		t.Fatalf("the container's sockets: %v", got)
	}
	return s
}

func TestWhatIsRefusedIsCutAndNothingElse(t *testing.T) {
	s := newStreet(t)
	n, err := Connections(s.target)
	if err != nil || n != len(refusedSockets) {
		t.Errorf("%d connections, %v; want %d", n, err, len(refusedSockets))
	}
	for name, state := range s.container.look(t) {
		want := "open"
		if slices.Contains(refusedSockets, name) {
			want = "ECONNABORTED"
		}
		if state != want {
			t.Errorf("%s: %s, want %s", name, state, want)
		}
	}
	for who, p := range map[string]*process{"peer": s.peer, "caller": s.caller} {
		for name, state := range p.look(t) {
			if state != "open" {
				t.Errorf("%s of the %s: %s, want open", name, who, state)
			}
		}
	}
	if n, err := Connections(s.target); n != 0 || err != nil {
		t.Errorf("once more: %d connections, %v", n, err)
	}
}

func TestWhatIsKeptIsCounted(t *testing.T) {
	s := newStreet(t)
	s.target.Keep = true
	n, err := Connections(s.target)
	if err != nil || n != len(refusedSockets) {
		t.Errorf("%d connections, %v; want %d", n, err, len(refusedSockets))
	}
	for name, state := range s.container.look(t) {
		want := "open"
		if name == "tcp_half" {
			want = "end" // as its peer wished
		}
		if state != want {
			t.Errorf("%s: %s, want %s", name, state, want)
		}
	}
}

func TestAJudgeThatFailsCutsNothingAndIsTold(t *testing.T) {
	s := newStreet(t)
	no := errors.New("no answer")
	s.target.Refused = func(netip.Addr, policy.Proto, uint16) (bool, error) { return false, no }
	if n, err := Connections(s.target); n != 0 || !errors.Is(err, no) {
		t.Errorf("%d connections, %v", n, err)
	}
}

func TestAContainerThatIsGoneHasNothingToCut(t *testing.T) {
	testutil.Privileged(t)
	if n, err := Connections(Target{Cgroups: map[uint64]string{1: t.TempDir() + "/gone"}}); n != 0 || err != nil {
		t.Errorf("%d connections, %v", n, err)
	}
}

func TestNoThreadStaysInAForeignNamespace(t *testing.T) {
	s := newStreet(t)
	s.target.Keep = true
	for range 50 {
		if _, err := Connections(s.target); err != nil {
			t.Fatal(err)
		}
	}
	foreign, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", s.peer.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	testutil.NoThreadIn(t, foreign)
}
