package e2e

import (
	"fmt"
	"net"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil/docker"
	"github.com/egresswarden/egresswarden/internal/testutil/world"
)

// TestAContainerCannotReachTheApproval lets a container that may go anywhere
// dial the host for the port at which the host itself reaches the policy log.
func TestAContainerCannotReachTheApproval(t *testing.T) {
	const port = 4277
	u := newUp(t, "--listen", fmt.Sprintf("127.0.0.1:%d", port))
	err := u.world.Host.Do(func() error {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		return c.Close()
	})
	if err != nil {
		t.Fatalf("the host itself does not reach its event log: %v", err)
	}
	c := u.docker.Run(t, docker.Spec{Name: "free", Network: "dual", Cmd: []string{"stay"}, Labels: map[string]string{"egress": "allow"}})
	u.covered(t, c.Name)
	if r := dial(t, c, "203.0.113.9:80"); !r.OK {
		t.Fatalf("the container reaches nothing, so that the test shows nothing: %s", r)
	}
	for _, to := range []string{
		fmt.Sprintf("%s:%d", world.HostAddr4, port), fmt.Sprintf("[%s]:%d", world.HostAddr6, port),
	} {
		if r := dial(t, c, to); r.OK {
			t.Errorf("a container reaches the event log at %s", to)
		}
	}
	u.stop(t)
}
