//go:build !amd64

package adversary

import "golang.org/x/sys/unix"

// int80 is for amd64.
func int80(_, _, _, _, _, _ uintptr) uintptr { return -uintptr(unix.ENOSYS) }
