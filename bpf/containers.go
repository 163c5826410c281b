package bpf

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// PutContainer tells the gate of a container, by Docker's full id, before it
// starts. ErrFull if there is no room: then the container is an unknown one.
func (g *Gate) PutContainer(id string, index uint32) error {
	key, err := containerKey(id)
	if err != nil {
		return err
	}
	if err := g.checkIndex(index); err != nil {
		return fmt.Errorf("put container %s: %w", id, err)
	}
	var before uint32
	if err := g.objects.Containers.Lookup(key, &before); err != nil || before != index {
		// What the index's former container did is not this one's.
		err := errors.Join(g.objects.Forgers.Put(index, uint32(0)), g.objects.MetLate.Put(index, uint32(0)))
		if err != nil {
			return fmt.Errorf("put container %s: %w", id, err)
		}
	}
	return wrap("put container", id, g.objects.Containers.Put(key, index))
}

// RemoveContainer forgets a container. ErrNotFound if it was not known.
func (g *Gate) RemoveContainer(id string) error {
	key, err := containerKey(id)
	if err != nil {
		return err
	}
	return wrap("remove container", id, g.objects.Containers.Delete(key))
}

// Containers returns the index of every container that the gate was told of.
func (g *Gate) Containers() (map[string]uint32, error) {
	all := make(map[string]uint32)
	err := listHash(g.objects.Containers, func(key gateContainerId, index uint32) {
		all[string(key.Hex[:])] = index
	})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	return all, nil
}

// PutCgroup gives a cgroup that exists its container's index. Child cgroups
// that exist already must be put as well; later ones inherit.
func (g *Gate) PutCgroup(cgroupID uint64, index uint32) error {
	if err := g.checkIndex(index); err != nil {
		return fmt.Errorf("put cgroup %d: %w", cgroupID, err)
	}
	var known uint32
	err := g.objects.Workloads.Lookup(cgroupID, &known)
	if err == nil && known == index {
		return nil
	}
	if err != nil {
		// It has sockets of which the gate saw nothing.
		if err := g.objects.MetLate.Put(index, uint32(1)); err != nil {
			return wrap("put cgroup", cgroupID, err)
		}
	}
	defer g.shared.changed(only(index))
	return wrap("put cgroup", cgroupID, g.objects.Workloads.Put(cgroupID, index))
}

// RemoveCgroup makes a cgroup the host's own: its processes are not judged.
func (g *Gate) RemoveCgroup(cgroupID uint64) error {
	defer g.shared.changed(none)
	return wrap("remove cgroup", cgroupID, g.objects.Workloads.Delete(cgroupID))
}

// Cgroups returns the index of every cgroup that is a container's.
func (g *Gate) Cgroups() (map[uint64]uint32, error) {
	all := make(map[uint64]uint32)
	err := listHash(g.objects.Workloads, func(id uint64, index uint32) { all[id] = index })
	if err != nil {
		return nil, fmt.Errorf("list cgroups: %w", err)
	}
	return all, nil
}

func (g *Gate) checkIndex(index uint32) error {
	if index >= uint32(len(g.shared.states)) {
		return fmt.Errorf("index %d: %w", index, ErrRange)
	}
	return nil
}

func containerKey(id string) (*gateContainerId, error) {
	var key gateContainerId
	if _, err := hex.DecodeString(id); err != nil || len(id) != len(key.Hex) {
		return nil, fmt.Errorf("container id %q: want 64 hex digits", id)
	}
	copy(key.Hex[:], id)
	return &key, nil
}

// wrap names what failed, and translates what callers can tell apart.
func wrap(op string, object any, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return fmt.Errorf("%s %v: %w", op, object, ErrNotFound)
	case errors.Is(err, unix.E2BIG), errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%s %v: %w", op, object, ErrFull)
	}
	return fmt.Errorf("%s %v: %w", op, object, err)
}
