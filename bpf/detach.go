package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf/link"
)

// Detach takes everything off: the links and maps of every layout pinned in the
// directory. It returns the pins that it removed. Nothing is judged afterwards,
// even while another process has the gate open.
func Detach(pinDir string) (removed []string, err error) {
	if pinDir == "" {
		pinDir = DefaultPinDir
	}
	unlock, err := lockDir(pinDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("detach: %w", err)
	}
	defer unlock()
	dirs, err := filepath.Glob(filepath.Join(pinDir, "layout-*"))
	if err != nil {
		return nil, fmt.Errorf("detach: %w", err)
	}
	var errs []error
	for _, dir := range dirs {
		pins, err := removeLayout(dir)
		removed = append(removed, pins...)
		errs = append(errs, err)
	}
	errs = append(errs, os.Remove(pinDir))
	if err := errors.Join(errs...); err != nil {
		return removed, fmt.Errorf("detach: %w", err)
	}
	return removed, nil
}

// removeLayout detaches the links of a layout and removes all its pins.
func removeLayout(dir string) (removed []string, err error) {
	links, err := os.ReadDir(filepath.Join(dir, linksDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var errs []error
	for _, e := range links {
		pin := filepath.Join(dir, linksDir, e.Name())
		errs = append(errs, removeLink(pin))
		removed = append(removed, pin)
	}
	walls, err := os.ReadDir(filepath.Join(dir, wallsDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, e := range walls {
		pin := filepath.Join(dir, wallsDir, e.Name())
		errs = append(errs, removeWall(pin))
		removed = append(removed, pin)
	}
	maps, err := os.ReadDir(dir)
	errs = append(errs, err)
	for _, e := range maps {
		if !e.IsDir() {
			removed = append(removed, filepath.Join(dir, e.Name()))
		}
	}
	return removed, errors.Join(append(errs, os.RemoveAll(dir))...)
}

// removeLink unpins a link. A cgroup's is detached as well, as another process
// may hold it; a tracepoint's cannot be.
func removeLink(pin string) error {
	l, err := link.LoadPinnedLink(pin, nil)
	if err != nil {
		return fmt.Errorf("open link %s: %w", pin, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return fmt.Errorf("link %s: %w", pin, err)
	}
	if info.Cgroup() != nil {
		if err := l.Detach(); err != nil {
			return fmt.Errorf("detach link %s: %w", pin, err)
		}
	}
	return l.Unpin()
}

// removeOtherLayouts ends the gates that other versions of this program left.
func (g *Gate) removeOtherLayouts() error {
	dirs, err := filepath.Glob(filepath.Join(g.o.PinDir, "layout-*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if dir == g.dir {
			continue
		}
		g.log.Warn("removing the gate of another layout", "pins", strings.TrimPrefix(dir, g.o.PinDir))
		if _, err := removeLayout(dir); err != nil {
			return fmt.Errorf("remove other layout %s: %w", dir, err)
		}
	}
	return nil
}
