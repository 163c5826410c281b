package testutil

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// SmallDisk mounts a file system of some bytes at a folder, which must exist,
// until the test ends. It needs root.
func SmallDisk(t testing.TB, dir string, bytes int) {
	t.Helper()
	if err := unix.Mount("egwtest", dir, "tmpfs", 0, size(bytes)); err != nil {
		t.Fatalf("mount a small disk at %s: %v", dir, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
}

// ResizeDisk makes room, or takes it away.
func ResizeDisk(t testing.TB, dir string, bytes int) {
	t.Helper()
	if err := unix.Mount("egwtest", dir, "tmpfs", unix.MS_REMOUNT, size(bytes)); err != nil {
		t.Fatalf("resize the disk at %s: %v", dir, err)
	}
}

func size(bytes int) string { return fmt.Sprintf("size=%d", bytes) }
