// Package vmtest boots Debian's kernels in qemu and runs tests inside: the
// kernels that are claimed, whatever the machine's own is. It wants no KVM,
// installs nothing on the machine, and touches none of its networks.
package vmtest

import (
	"os"
	"path/filepath"
)

// Suite is a test binary that runs in the machine.
type Suite struct {
	// Package is the directory of its sources, below the module's.
	Package string
	// Run selects tests, as go test's -run; empty is all of them.
	Run string
}

// cacheDir makes and returns the directory of what is worth keeping.
func cacheDir(name string) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(base, "egresswarden", name)
	return dir, os.MkdirAll(dir, 0o755)
}
