package adversary

// int80 makes a system call as a 32-bit program does. Where the kernel does
// not have them, the process dies.
//
//go:noescape
func int80(number, a1, a2, a3, a4, a5 uintptr) uintptr
