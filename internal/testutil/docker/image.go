package docker

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/docker/docker/api/types/image"
	"github.com/egresswarden/egresswarden/internal/testutil/build"
)

// Image is made of the probe program alone, so that no registry is needed.
const Image = "egwprobe:latest"

func (d *Daemon) loadImage(t testing.TB) error {
	t.Helper()
	return d.importImage(t, Image)
}

// LabelledImage makes an image with labels of its own, each as key=value.
func (d *Daemon) LabelledImage(t testing.TB, name string, labels ...string) {
	t.Helper()
	changes := make([]string, len(labels))
	for i, l := range labels {
		changes[i] = "LABEL " + l
	}
	if err := d.importImage(t, name, changes...); err != nil {
		t.Fatalf("load image %s: %v", name, err)
	}
}

func (d *Daemon) importImage(t testing.TB, name string, changes ...string) error {
	t.Helper()
	root, err := probeRoot(build.Binary(t, "internal/testutil/probe/cmd"))
	if err != nil {
		return err
	}
	out, err := d.Client.ImageImport(t.Context(),
		image.ImportSource{Source: root, SourceName: "-"}, name,
		image.ImportOptions{Changes: append(changes, `ENTRYPOINT ["/probe"]`)})
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(io.Discard, out)
	return err
}

func probeRoot(program string) (io.Reader, error) {
	text, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err = w.WriteHeader(&tar.Header{Name: "probe", Mode: 0o755, Size: int64(len(text))})
	if err != nil {
		return nil, err
	}
	if _, err = w.Write(text); err != nil {
		return nil, err
	}
	return &b, w.Close()
}
