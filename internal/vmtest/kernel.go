package vmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Kernel is one of Debian's, unpacked.
type Kernel struct {
	// Series is what it was asked for by, such as 6.1.
	Series string
	// Release is what uname -r says in it.
	Release string
	dir     string
}

// metaPackages depend on the newest kernel of their series.
var metaPackages = map[string]string{
	"6.1":  "linux-image-amd64",
	"6.12": "linux-image-6.12-amd64",
}

// Series are the kernels that Fetch knows.
func Series() []string { return []string{"6.1", "6.12"} }

// Fetch downloads and unpacks the newest kernel of the series that the
// machine's package lists know, unless one is cached.
func Fetch(ctx context.Context, series string) (Kernel, error) {
	meta := metaPackages[series]
	if meta == "" {
		return Kernel{}, fmt.Errorf("kernel %q: want one of %s", series, strings.Join(Series(), ", "))
	}
	cache, err := cacheDir("kernels")
	if err != nil {
		return Kernel{}, err
	}
	dir := filepath.Join(cache, series)
	if k, err := cached(series, dir); err == nil {
		return k, nil
	}
	if err := download(ctx, meta, dir); err != nil {
		return Kernel{}, fmt.Errorf("fetch kernel %s: %w", series, err)
	}
	return cached(series, dir)
}

// cached finds the one unpacked kernel of a directory.
func cached(series, dir string) (Kernel, error) {
	images, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return Kernel{}, errors.Join(fmt.Errorf("%s holds %d kernels; remove it", dir, len(images)), err)
	}
	release := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	return Kernel{Series: series, Release: release, dir: dir}, nil
}

// download puts the kernel aside and renames it when complete.
func download(ctx context.Context, meta, dir string) error {
	aside, err := os.MkdirTemp(filepath.Dir(dir), "unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(aside)
	if err := retry(ctx, func() error { return getFresh(ctx, meta, aside) }); err != nil {
		return err
	}
	debs, _ := filepath.Glob(filepath.Join(aside, "*.deb"))
	if len(debs) != 1 {
		return fmt.Errorf("apt-get download left %v", debs)
	}
	root := filepath.Join(aside, "root")
	if err := command(ctx, "", "dpkg-deb", "-x", debs[0], root); err != nil {
		return err
	}
	k, err := cached("", root)
	if err != nil {
		return err
	}
	if err := command(ctx, "", "depmod", "-b", root, k.Release); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(root, dir)
}

// getFresh is getPackage, and again with fresh lists where that fails: old ones
// name packages that are gone from the archive.
func getFresh(ctx context.Context, meta, dir string) error {
	err := getPackage(ctx, meta, dir)
	if err == nil {
		return nil
	}
	if update := command(ctx, "", "apt-get", "-qq", "update"); update != nil {
		return errors.Join(err, update)
	}
	return getPackage(ctx, meta, dir)
}

// getPackage downloads the package that the other one depends on.
func getPackage(ctx context.Context, meta, dir string) error {
	out, err := exec.CommandContext(ctx, "apt-cache", "depends", meta).Output()
	if err != nil {
		return fmt.Errorf("apt-cache depends %s: %w", meta, err)
	}
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: linux-image-"); ok {
			return command(ctx, dir, "apt-get", "-qq", "-o", "APT::Sandbox::User=root",
				"download", "linux-image-"+name)
		}
	}
	return fmt.Errorf("package %s depends on no kernel: is this Debian 12, with its updates?", meta)
}

// retry tries a download five times.
func retry(ctx context.Context, fn func() error) (err error) {
	for n := range 5 {
		if err = fn(); err == nil {
			return nil
		}
		select {
		case <-time.After(time.Duration(n+1) * 3 * time.Second):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
	return err
}

// command runs a program in a directory; its words are in the error.
func command(ctx context.Context, dir, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, text)
	}
	return nil
}

// Image is the path of the compressed kernel.
func (k Kernel) Image() string { return filepath.Join(k.dir, "boot", "vmlinuz-"+k.Release) }
