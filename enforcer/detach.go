package enforcer

import "github.com/egresswarden/egresswarden/bpf"

// Detach takes the gate off the host, of whatever layout: nothing is judged
// any more, and nothing of it is left in the kernel. It gives what it removed.
func Detach(pins string) (removed []string, err error) { return bpf.Detach(pins) }

// DefaultPins is where the gate is pinned when nothing else is said.
const DefaultPins = bpf.DefaultPinDir
