//go:build vmsystem

package system

import (
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil"
)

func TestFirstInstallAsTheManualSays(t *testing.T) {
	t.Log(sh(t, "uname -srv; systemctl --version | head -n 1; dockerd --version"))
	t.Cleanup(func() { journal(t, "egw-enforcer") })
	sh(t, "cd /opt/vmtest/src && sh -ex /opt/vmtest/install.sh")
	for _, unit := range []string{"egw-enforcer", "docker", "vmtest-sink"} {
		if out, err := try("systemctl is-active %s", unit); err != nil {
			t.Errorf("%s is %s: %v", unit, out, err)
		}
	}
	got := sh(t, "docker info -f '{{.CgroupDriver}} {{.CgroupVersion}}'; stat -fc %%T /sys/fs/cgroup")
	if got != "systemd 2\ncgroup2fs" {
		t.Errorf("the engine's cgroups are %q", got)
	}
	out, err := try("egw doctor")
	t.Log(out)
	if err != nil {
		t.Error(err)
	}
}

func TestFirstLearnAndBlockByLabels(t *testing.T) {
	sh(t, `tar -C /opt/vmtest -c probe | docker import -c 'ENTRYPOINT ["/probe"]' - probe`)
	sh(t, "echo '203.0.113.10 tcp/443' >/etc/egresswarden/policies/guarded.rules")
	sh(t, "docker run -d --name shop --label egress=learn probe stay")
	reaches(t, "shop", good)
	reaches(t, "shop", other)
	if arrived(t) == 0 {
		t.Error("what arrives is not counted")
	}
	flows(t, flow{"would_deny", "shop", "203.0.113.20", 443})

	sh(t, "docker run -d --name guarded --restart always --label egress=block probe stay")
	isRefused(t, "guarded", other)
	flows(t, flow{"deny", "guarded", "203.0.113.20", 443})
	testutil.Eventually(t, "the allow-list of guarded", func() error { return reach("guarded", good) })
	scope := sh(t, "cat /proc/$(docker inspect -f '{{.State.Pid}}' guarded)/cgroup")
	if !strings.HasPrefix(scope, "0::/system.slice/docker-") || !strings.HasSuffix(scope, ".scope") {
		t.Errorf("the container's cgroup is %q, not systemd's", scope)
	}
}

func TestFirstBlockWhatWasLearned(t *testing.T) {
	sh(t, "egw policy allow shop 203.0.113.10 tcp/443")
	sh(t, "egw mode shop block --yes")
	testutil.Eventually(t, "mode block of shop", func() error { return meetRefusal("shop", other) })
	reaches(t, "shop", good)
}

func TestFirstRestartsOfTheEnforcerOpenNothing(t *testing.T) {
	sh(t, "docker run -d --name restless --label egress=block probe loop -how %s -pause 10ms -to %s", sends, other)
	before := arrived(t)
	for _, how := range []string{
		"systemctl restart egw-enforcer",
		"systemctl kill -s KILL egw-enforcer",
		"systemctl stop egw-enforcer",
	} {
		sh(t, "%s", how)
		isRefused(t, "restless", other)
		reaches(t, "guarded", good)
	}
	sh(t, "docker run -d --name meanwhile --label egress=block probe stay")
	isRefused(t, "meanwhile", other)
	sh(t, "systemctl start egw-enforcer")
	refusedAll(t, "restless")
	if now := arrived(t); now != before {
		t.Errorf("%d packets arrived, %d before the restarts", now, before)
	}
	// Born unknown; the enforcer learns its name now.
	isTold(t, flow{"deny", "meanwhile", "203.0.113.20", 443})
}

func TestFirstRestartOfDockerOpensNothing(t *testing.T) {
	sh(t, "docker run -d --name always --restart always --label egress=block probe loop -how %s -pause 10ms -to %s", sends, other)
	sh(t, "docker run -d --name free --restart always probe loop -how tcp -pause 100ms -to %s", good)
	before := arrived(t)
	sh(t, "systemctl restart docker")
	for _, name := range []string{"always", "free", "guarded"} {
		running(t, name)
	}
	isRefused(t, "guarded", other)
	reaches(t, "guarded", good)
	refusedAll(t, "always")
	if now := arrived(t); now != before {
		t.Errorf("%d packets arrived, %d before the restart", now, before)
	}
	// As it was, for the reboot. A slow engine may still hold what it stopped.
	testutil.Eventually(t, "always starts again", func() error {
		_, err := try("docker start always")
		return err
	})
}

// refusedAll stops a container and fails unless each of its attempts since its
// start was refused.
func refusedAll(t *testing.T, name string) {
	t.Helper()
	for _, c := range tally(t, name) {
		t.Logf("%s: %+v", name, c)
		if c.Attempts == 0 || c.Denied != c.Attempts {
			t.Errorf("%s was refused %d times of %d: %+v", name, c.Denied, c.Attempts, c)
		}
	}
}
