package bpf

import (
	"fmt"
	"os"
	"path/filepath"
)

// OpenPinned opens a gate that is pinned already; unlike Open it makes none.
// ErrNotFound: no gate of this layout is pinned there.
func OpenPinned(pinDir string) (*Gate, error) {
	if pinDir == "" {
		pinDir = DefaultPinDir
	}
	links, err := os.ReadDir(filepath.Join(layoutDir(pinDir, Layout), linksDir))
	if err != nil || len(links) == 0 {
		return nil, fmt.Errorf("gate of layout %d at %s: %w", Layout, pinDir, ErrNotFound)
	}
	return Open(Options{PinDir: pinDir})
}

// ProbeIndex is the container index that no container gets: whoever proves
// that the gate refuses uses it.
func (g *Gate) ProbeIndex() uint32 { return uint32(len(g.shared.states)) - 1 }
