package bpf

import (
	"syscall"
	"testing"

	"github.com/egresswarden/egresswarden/policy"
)

func TestGateRefusesWhatNoRuleAllows(t *testing.T) {
	f := newFixture(t, nil)
	f.putPolicy(t, 1, table("127.0.1.0/24", "::1/128"), 7)
	f.manage(t, 1, State{Mode: policy.ModeBlock, Slot: 1, HostNetwork: true})
	for _, c := range []struct {
		network, addr string
		want          syscall.Errno
	}{
		{"tcp4", "127.0.1.5:1", 0},
		{"tcp4", "127.0.2.5:1", syscall.EPERM},
		{"udp4", "127.0.1.5:1", 0},
		{"udp4", "127.0.2.5:1", syscall.EPERM},
		{"tcp6", "[::1]:1", 0},
		{"tcp", "[::ffff:127.0.1.5]:1", 0},
		{"tcp", "[::ffff:127.0.2.5]:1", syscall.EPERM},
	} {
		if got := dial(c.network, c.addr); got != c.want {
			t.Errorf("dial %s %s: %v, want %v", c.network, c.addr, got, c.want)
		}
	}
	events, _ := f.Ring().TryRead(100)
	for _, e := range events {
		t.Logf("%+v", e)
	}
	r, err := f.Sweep()
	t.Log(r, err)
	events, _ = f.Ring().TryRead(100)
	for _, e := range events {
		t.Logf("%+v", e)
	}
	t.Log(f.Counters(1))
	t.Log(f.Residue())
}
