package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil/world"
)

func TestGroup(t *testing.T) {
	w := world.New(t)
	g := New(t)
	t.Run("a command is born inside", func(t *testing.T) {
		child := g.Child(t, "child")
		for _, g := range []*Group{g, child} {
			c := exec.Command("cat", "/proc/self/cgroup")
			var out strings.Builder
			c.Stdout = &out
			if err := g.Start(nil, c); err != nil {
				t.Fatal(err)
			}
			root, _ := Root()
			want := fmt.Sprintf("0::%s\n", strings.TrimPrefix(g.Path, root))
			if err := c.Wait(); err != nil || !strings.Contains(out.String(), want) {
				t.Errorf("%v: %v, %s", g, err, &out)
			}
		}
	})
	t.Run("a probe reaches the world from inside", func(t *testing.T) {
		rs := g.Probe(t, w.Host, "dial", "-how", "tcp,udp_sendto", "-to", "203.0.113.5:80,[2001:db8::5]:80")
		if len(rs) != 4 {
			t.Fatal(rs)
		}
		for _, r := range rs {
			if !r.OK {
				t.Error(r)
			}
		}
	})
	t.Run("Remove ends what runs inside", func(t *testing.T) {
		g := Named(t, "egwtest/"+strings.Repeat("ab", 32))
		c := exec.Command("sleep", "1000")
		if err := g.Start(nil, c); err != nil {
			t.Fatal(err)
		}
		go func() { _ = c.Wait() }()
		g.Remove(t)
		if _, err := os.Stat(g.Path); !os.IsNotExist(err) {
			t.Errorf("%v is still there: %v", g, err)
		}
	})
}
