package vmtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestCachedKernel(t *testing.T) {
	dir := t.TempDir()
	if k, err := cached("6.1", dir); err == nil {
		t.Errorf("an empty directory holds %+v", k)
	}
	boot := filepath.Join(dir, "boot")
	if err := os.MkdirAll(boot, 0o755); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(boot, "vmlinuz-6.1.0-57-amd64")
	if err := os.WriteFile(image, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	k, err := cached("6.1", dir)
	if err != nil || k.Release != "6.1.0-57-amd64" || k.Image() != image {
		t.Errorf("got %+v, %v", k, err)
	}
	if err := os.WriteFile(image+"-2", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if k, err := cached("6.1", dir); err == nil {
		t.Errorf("of two kernels one is taken: %+v", k)
	}
}

func TestFetchNamesTheKernelsThatItKnows(t *testing.T) {
	if k, err := Fetch(t.Context(), "5.10"); err == nil {
		t.Errorf("got %+v", k)
	}
}

func TestADownloadIsTriedAgain(t *testing.T) {
	n := 0
	if err := retry(t.Context(), func() error { n++; return nil }); err != nil || n != 1 {
		t.Errorf("%d attempts, %v", n, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	away := errors.New("away")
	err := retry(ended, func() error { return away })
	if !errors.Is(err, away) || !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
