//go:build vmsystem

package system

import (
	"strings"
	"testing"
)

func TestSecondBootBlocksFromTheFirstInstruction(t *testing.T) {
	t.Log(sh(t, "uptime -p; systemd-analyze; systemctl show -P ActiveEnterTimestampMonotonic egw-enforcer docker"))
	// The one that is let alone tells that the network was there.
	for _, c := range tally(t, "free") {
		t.Logf("free: %+v", c)
		if c.OK == 0 || c.Denied != 0 {
			t.Errorf("free got through %d times of %d: %+v", c.OK, c.Attempts, c)
		}
	}
	refusedAll(t, "always")
	if n := arrived(t); n != 0 {
		t.Errorf("%d packets arrived since the boot", n)
	}
	flows(t, flow{"deny", "always", "203.0.113.20", 443})
	isRefused(t, "guarded", other)
	reaches(t, "guarded", good)
}

func TestSecondBootKeepsTheTrailAndTheMode(t *testing.T) {
	flows(t, flow{"would_deny", "shop", "203.0.113.20", 443})
	flows(t, flow{"deny", "meanwhile", "203.0.113.20", 443})
	sh(t, "docker start shop")
	isRefused(t, "shop", other)
	reaches(t, "shop", good)
	out, err := try("egw status")
	t.Log(out)
	if err != nil {
		t.Error(err)
	}
}

func TestSecondDockerMayBeToldToStayDownWithoutTheGate(t *testing.T) {
	sh(t, `mkdir -p /etc/systemd/system/docker.service.d
printf '[Unit]\nAssertPathExistsGlob=/sys/fs/bpf/egresswarden/layout-*/links/connect_v4\n' >/etc/systemd/system/docker.service.d/gate.conf
systemctl daemon-reload
systemctl restart docker
systemctl stop docker docker.socket egw-enforcer
egw detach --yes`)
	if _, err := try("systemctl start docker"); err == nil {
		t.Error("docker starts without the gate")
	}
	sh(t, "systemctl start egw-enforcer docker")
}

func TestSecondTakeItOff(t *testing.T) {
	sh(t, "docker rm -f $(docker ps -aq)")
	sh(t, "systemctl disable --now egw-enforcer docker docker.socket containerd")
	sh(t, "egw detach --yes")
	if out := sh(t, "ls /sys/fs/bpf"); strings.Contains(out, "egresswarden") {
		t.Errorf("left in /sys/fs/bpf: %s", out)
	}
}
