package bpf

import (
	"fmt"
	"log/slog"
	"math/bits"
	"os"
)

// DefaultPinDir is where the gate lives when nothing else is said.
const DefaultPinDir = "/sys/fs/bpf/egresswarden"

// Options say where the gate is pinned and how large its maps are. A zero
// field is its default. The sizes hold for maps that are made: pinned maps that
// exist keep theirs.
type Options struct {
	// PinDir is a directory on a BPF file system; it is made when missing.
	PinDir string
	// CgroupRoot is where the programs attach; empty is the root of the cgroup
	// v2 hierarchy.
	CgroupRoot string
	// RingBytes is the size of the ring, a power of two of pages.
	RingBytes uint32
	// FlowEntries is the size of each half of the flow table.
	FlowEntries uint32
	// MaxContainers bounds the container indexes and the policy slots.
	MaxContainers uint32
	// MaxCgroups bounds the cgroups that are known; what does not fit is found
	// in a slower way.
	MaxCgroups uint32
	// Peers bounds the UDP peers that are remembered.
	Peers uint32
	// TablePrefixes bounds the prefixes of one family, and the ports, of a
	// policy.
	TablePrefixes uint32
	Log           *slog.Logger
}

// DefaultOptions returns the options of an ordinary host.
func DefaultOptions() Options {
	return Options{
		PinDir:        DefaultPinDir,
		RingBytes:     16 << 20,
		FlowEntries:   1 << 16,
		MaxContainers: 4096,
		MaxCgroups:    1 << 15,
		Peers:         1 << 16,
		TablePrefixes: 1 << 20,
		Log:           slog.New(slog.DiscardHandler),
	}
}

// withDefaults fills what is not set and refuses what the kernel would.
func (o Options) withDefaults() (Options, error) {
	d := DefaultOptions()
	if o.PinDir == "" {
		o.PinDir = d.PinDir
	}
	for _, f := range []struct{ value, or *uint32 }{
		{&o.RingBytes, &d.RingBytes},
		{&o.FlowEntries, &d.FlowEntries},
		{&o.MaxContainers, &d.MaxContainers},
		{&o.MaxCgroups, &d.MaxCgroups},
		{&o.Peers, &d.Peers},
		{&o.TablePrefixes, &d.TablePrefixes},
	} {
		if *f.value == 0 {
			*f.value = *f.or
		}
	}
	if o.Log == nil {
		o.Log = d.Log
	}
	page := uint32(os.Getpagesize())
	if bits.OnesCount32(o.RingBytes) != 1 || o.RingBytes < page {
		return o, fmt.Errorf("ring of %d bytes: want a power of two of pages", o.RingBytes)
	}
	if o.CgroupRoot == "" {
		root, err := CgroupRoot()
		if err != nil {
			return o, err
		}
		o.CgroupRoot = root
	}
	return o, nil
}
