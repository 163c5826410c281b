package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// spareTables is how many tables there are besides those of the slots: to be
// filled while the old ones are in force, or drained.
const spareTables = 64

const bpffsMount = "/sys/fs/bpf"

// aside ends the name of a pin that is not in its place yet. The bpf file system
// takes no dots.
const aside = "_new"

// ensureBPFFS makes the directory, and mounts the BPF file system at its usual
// place where a small host has not.
func ensureBPFFS(dir string) error {
	if !isBPFFS(bpffsMount) && strings.HasPrefix(dir, bpffsMount) {
		if err := unix.Mount("bpf", bpffsMount, "bpf", 0, "mode=700"); err != nil {
			return fmt.Errorf("mount the bpf file system at %s: %w", bpffsMount, err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("pin directory: %w", err)
	}
	if !isBPFFS(dir) {
		return fmt.Errorf("pin directory %s: not on a bpf file system", dir)
	}
	return nil
}

func isBPFFS(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.BPF_FS_MAGIC
}

// lockDir keeps other processes out until the returned function is called, or
// this process ends.
func lockDir(dir string) (func(), error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := flock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// flockWithin waits that long for the lock, then it is ErrBusy.
func flockWithin(f *os.File, wait time.Duration) error {
	for end := time.Now().Add(wait); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		if time.Now().After(end) {
			return ErrBusy
		}
	}
}

// prepareSpec gives the maps the sizes of the options.
func prepareSpec(spec *ebpf.CollectionSpec, o Options) {
	// Holds nothing but what makes the compiler keep the types.
	delete(spec.Maps, ".bss")
	spec.Variables = nil
	for name, n := range map[string]uint32{
		"containers": o.MaxContainers, "states": o.MaxContainers, "policies": o.MaxContainers,
		"counters": o.MaxContainers, "overflows": o.MaxContainers, "forgers": o.MaxContainers, "met_late": o.MaxContainers,
		"strict": o.MaxContainers, "names": o.MaxContainers, "workloads": o.MaxCgroups, "devices": 4 * o.MaxContainers,
		"headers": o.MaxContainers + spareTables, "tables_v4": o.MaxContainers + spareTables,
		"tables_v6": o.MaxContainers + spareTables, "tables_ports": o.MaxContainers + spareTables,
		"flows_a": o.FlowEntries, "flows_b": o.FlowEntries, "peers": o.Peers, "heard": o.Peers, "events": o.RingBytes,
	} {
		spec.Maps[name].MaxEntries = n
	}
}

// openMaps returns the pinned maps of the layout, made where there are none.
// The specs take the sizes of those that exist.
func openMaps(spec *ebpf.CollectionSpec, dir string, log *slog.Logger) (map[string]*ebpf.Map, error) {
	maps, err := loadPinned(spec, dir, log)
	if err == nil {
		return maps, nil
	}
	if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, ErrLayout) {
		return nil, err
	}
	if links, _ := os.ReadDir(filepath.Join(dir, linksDir)); len(links) > 0 {
		return nil, fmt.Errorf("%w: %w", ErrLayout, err)
	}
	// No link is at work: what is there is the rest of a start that was cut off.
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("remove incomplete pins: %w", err)
	}
	return createMaps(spec, dir)
}

func loadPinned(spec *ebpf.CollectionSpec, dir string, log *slog.Logger) (map[string]*ebpf.Map, error) {
	maps := make(map[string]*ebpf.Map)
	for name, ms := range spec.Maps {
		m, err := ebpf.LoadPinnedMap(filepath.Join(dir, name), nil)
		if err != nil {
			closeMaps(maps)
			return nil, fmt.Errorf("pinned map %s: %w", name, err)
		}
		maps[name] = m
		if m.MaxEntries() != ms.MaxEntries {
			log.Warn("pinned map keeps its size", "map", name, "size", m.MaxEntries(), "configured", ms.MaxEntries)
			ms.MaxEntries = m.MaxEntries()
		}
		if err := ms.Compatible(m); err != nil {
			closeMaps(maps)
			return nil, fmt.Errorf("pinned map %s: %w: %w", name, ErrLayout, err)
		}
	}
	return maps, nil
}

// createMaps makes and pins all maps: in a directory aside, which is renamed
// when complete.
func createMaps(spec *ebpf.CollectionSpec, dir string) (maps map[string]*ebpf.Map, err error) {
	next := dir + aside
	if err := os.RemoveAll(next); err != nil {
		return nil, err
	}
	for _, d := range []string{linksDir, wallsDir} {
		if err := os.MkdirAll(filepath.Join(next, d), 0o700); err != nil {
			return nil, err
		}
	}
	maps = make(map[string]*ebpf.Map)
	defer func() {
		if err != nil {
			closeMaps(maps)
			err = errors.Join(err, os.RemoveAll(next))
		}
	}()
	for name, ms := range spec.Maps {
		m, err := ebpf.NewMap(ms)
		if err != nil {
			return nil, fmt.Errorf("make map %s: %w", name, err)
		}
		maps[name] = m
	}
	if err := initMaps(maps); err != nil {
		return nil, err
	}
	for name, m := range maps {
		if err := m.Pin(filepath.Join(next, name)); err != nil {
			return nil, fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	if err := os.Rename(next, dir); err != nil {
		return nil, fmt.Errorf("put pins in place: %w", err)
	}
	return maps, nil
}

// initMaps writes what must hold before anybody sees the maps: what is unknown
// is blocked.
func initMaps(maps map[string]*ebpf.Map) error {
	unknown := gateState{Mode: modeBlock}
	if err := maps["states"].Put(uint32(0), &unknown); err != nil {
		return fmt.Errorf("state of unknown containers: %w", err)
	}
	instance := gateSetting{Instance: rand.Uint64(), Generation: 1}
	if err := maps["settings"].Put(uint32(0), &instance); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	return nil
}

func closeMaps(maps map[string]*ebpf.Map) {
	for _, m := range maps {
		_ = m.Close()
	}
}

// Instance is the random name of this creation of the maps. A position in the
// ring is unique together with it, across reboots and detaching.
func (g *Gate) Instance() string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], g.shared.settings().Instance)
	return fmt.Sprintf("%x", b)
}
