package e2e

import (
	"testing"

	"github.com/docker/docker/api/types/container"

	"github.com/egresswarden/egresswarden/internal/testutil/docker"
)

// TestAnImagesLabelsOpenNothing holds that who built an image has no say in
// what may leave, from the first instruction on.
func TestAnImagesLabelsOpenNothing(t *testing.T) {
	const open = "egwopen:latest"
	f := newFixture(t)
	f.docker.LabelledImage(t, open, "egress=allow", "egress.policy="+web)
	f.enforcer.configure(t, f.dir, f.docker.Socket, "default_mode: block")
	f.enforcer.start(t)
	f.ready(f.stay("first", "block"))
	run := func(name string, labels map[string]string) *docker.Container {
		return f.docker.Run(t, docker.Spec{
			Name: name, Labels: labels, Network: "dual", Cmd: []string{"loop", "-to", "203.0.113.5:443", "-rounds", "50"},
			Tweak: func(c *container.Config, _ *container.HostConfig) { c.Image = open },
		})
	}
	seen := f.watch("203.0.113.5:443")
	image := run("image", nil)
	for _, y := range output(t, image) {
		if y.Denied != y.Attempts || y.Attempts != 50 {
			t.Errorf("by the image's labels: %+v, want all denied", y)
		}
	}
	nothing(t, seen, "by the image's labels")
	own := run("own", map[string]string{"egress": "block", "egress.policy": web + "2"})
	for _, y := range output(t, own) {
		if y.Denied != y.Attempts {
			t.Errorf("by its own labels, under another policy: %+v, want all denied", y)
		}
	}
	learn := run("learn", map[string]string{"egress": "learn"})
	for _, y := range output(t, learn) {
		if y.OK != y.Attempts {
			t.Errorf("by its own label: %+v, want all to pass", y)
		}
	}
}
