package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
)

// Feature is something that the gate needs of the kernel.
type Feature struct {
	Name string
	// Err tells why the kernel lacks it; nil if it does not.
	Err error
	// Optional: the gate works without it, and covers less.
	Optional bool
}

// Features looks for all that the gate needs. It changes nothing.
func Features() []Feature {
	_, rootErr := CgroupRoot()
	list := []Feature{
		{"cgroup v2 hierarchy", rootErr, false},
		{"bpf file system", bpffsError(), false},
		{"BTF of the kernel", btfError(), false},
		{"cgroup_mkdir tracepoint", tracepointError("btf_trace_cgroup_mkdir"), false},
		{"ring buffer map", features.HaveMapType(ebpf.RingBuf), false},
		{"LPM trie map", features.HaveMapType(ebpf.LPMTrie), false},
		{"cgroup socket address programs", features.HaveProgramType(ebpf.CGroupSockAddr), false},
		{"walking maps", features.HaveProgramHelper(ebpf.SchedCLS, asm.FnForEachMapElem), false},
		{"the gate's programs", loadError(), false},
		{"refusing packet sockets", probeSocketCreate(), true},
	}
	for i, f := range list {
		if f.Err != nil {
			list[i].Err = fmt.Errorf("%s: %w", f.Name, f.Err)
		}
	}
	return list
}

func bpffsError() error {
	if isBPFFS(bpffsMount) {
		return nil
	}
	return fmt.Errorf("not mounted at %s; the gate mounts it", bpffsMount)
}

func btfError() error {
	_, err := btf.LoadKernelSpec()
	return err
}

func tracepointError(name string) error {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return err
	}
	var t *btf.Typedef
	return spec.TypeByName(name, &t)
}

// loadError loads everything, in a small size, and lets it go.
func loadError() error {
	spec, err := loadGate()
	if err != nil {
		return err
	}
	if probeSocketCreate() != nil {
		spec.Programs[socketCreate] = noSocketCreate()
	}
	prepareSpec(spec, Options{
		RingBytes: uint32(os.Getpagesize()), FlowEntries: 16, MaxContainers: 16, MaxCgroups: 16, Peers: 16,
	})
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		return err
	}
	c.Close()
	return nil
}

// Pinned is a layout of the gate that is pinned.
type Pinned struct {
	Layout int
	// Links are at work; for a whole gate all of LinkNames.
	Links []string
}

// LinkNames are the links that a gate which is attached has at least.
func LinkNames() []string {
	var names []string
	for _, h := range (&Gate{}).hooks() {
		if !h.optional {
			names = append(names, h.name)
		}
	}
	return names
}

// Pins returns the layouts that are pinned in a directory, without opening them.
func Pins(pinDir string) ([]Pinned, error) {
	if pinDir == "" {
		pinDir = DefaultPinDir
	}
	dirs, err := filepath.Glob(filepath.Join(pinDir, "layout-*"))
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	var all []Pinned
	for _, dir := range dirs {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "layout-"))
		if err != nil {
			continue // one that was never completed
		}
		p := Pinned{Layout: n}
		links, err := os.ReadDir(filepath.Join(dir, linksDir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("list pins: %w", err)
		}
		for _, l := range links {
			p.Links = append(p.Links, l.Name())
		}
		all = append(all, p)
	}
	return all, nil
}

// OtherProgram is somebody else's program on the path of a cgroup's traffic. It
// may refuse what the gate allows, and change the error of a refusal.
type OtherProgram struct {
	Hook string
	ID   uint32
	Name string
}

// OtherPrograms returns the programs of others that run for the cgroup, on the
// hooks that the gate uses.
func (g *Gate) OtherPrograms(cgroup string) ([]OtherProgram, error) {
	dir, err := os.Open(cgroup)
	if err != nil {
		return nil, fmt.Errorf("other programs at %s: %w: %w", cgroup, ErrCgroup, err)
	}
	defer dir.Close()
	var all []OtherProgram
	for _, h := range g.hooks() {
		if !h.cgroup {
			continue
		}
		others, err := g.others(h, int(dir.Fd()))
		if err != nil {
			return nil, fmt.Errorf("other programs of %s at %s: %w", h.name, cgroup, err)
		}
		all = append(all, others...)
	}
	return all, nil
}

func (g *Gate) others(h hook, cgroup int) ([]OtherProgram, error) {
	const effective = 1 // BPF_F_QUERY_EFFECTIVE: those of parents too
	res, err := link.QueryPrograms(link.QueryOptions{Target: cgroup, Attach: h.attach, QueryFlags: effective})
	if err != nil {
		return nil, err
	}
	own, err := g.ownPrograms(h)
	if err != nil {
		return nil, err
	}
	var all []OtherProgram
	for _, a := range res.Programs {
		if own[a.ID] {
			continue
		}
		o := OtherProgram{Hook: h.name, ID: uint32(a.ID)}
		if p, err := ebpf.NewProgramFromID(a.ID); err == nil {
			if info, err := p.Info(); err == nil {
				o.Name = info.Name
			}
			_ = p.Close()
		}
		all = append(all, o)
	}
	return all, nil
}

// ownPrograms are the hook's program as this process loaded it, and the one
// that the pinned link has, which another process loaded.
func (g *Gate) ownPrograms(h hook) (map[ebpf.ProgramID]bool, error) {
	own := map[ebpf.ProgramID]bool{}
	info, err := h.prog.Info()
	if err != nil {
		return nil, err
	}
	if id, ok := info.ID(); ok {
		own[id] = true
	}
	l, err := link.LoadPinnedLink(filepath.Join(g.dir, linksDir, h.name), nil)
	if errors.Is(err, os.ErrNotExist) {
		return own, nil
	}
	if err != nil {
		return nil, err
	}
	defer l.Close()
	pinned, err := l.Info()
	if err != nil {
		return nil, err
	}
	own[pinned.Program] = true
	return own, nil
}
