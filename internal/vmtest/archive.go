package vmtest

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// archive writes an initramfs: a cpio archive of the "newc" form.
type archive struct {
	w    io.Writer
	n    int64 // bytes written
	ino  int
	dirs map[string]bool
	err  error
}

// newArchive begins one with the directories that the guest mounts at.
func newArchive(w io.Writer) *archive {
	a := &archive{w: w, dirs: map[string]bool{".": true}}
	for _, dir := range []string{"dev", "proc", "sys", "tmp", "run", "root"} {
		a.dir(dir)
	}
	return a
}

const (
	modeFile   = 0o100000
	modeFolder = 0o040000
)

// dir adds a directory and its parents, once.
func (a *archive) dir(name string) {
	if a.dirs[name] {
		return
	}
	a.dir(path.Dir(name))
	a.dirs[name] = true
	a.entry(name, modeFolder|0o755, nil)
}

// file adds a file and its parents.
func (a *archive) file(name string, perm int, data []byte) {
	a.dir(path.Dir(name))
	a.entry(name, modeFile|perm, data)
}

// copy adds a file of the machine's.
func (a *archive) copy(name string, perm int, from string) {
	data, err := os.ReadFile(from)
	if err != nil && a.err == nil {
		a.err = err
	}
	a.file(name, perm, data)
}

// tree adds a directory of the machine's with all that is in it.
func (a *archive) tree(name, from string) {
	err := fs.WalkDir(os.DirFS(from), ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		a.copy(path.Join(name, file), int(info.Mode().Perm()), filepath.Join(from, file))
		return nil
	})
	if a.err == nil {
		a.err = err
	}
}

// close ends the archive and returns the first error of all.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, nil)
	return a.err
}

func (a *archive) entry(name string, mode int, data []byte) {
	a.ino++
	// Fields: ino, mode, uid, gid, nlink, mtime, size, device and rdevice, the
	// name's size with its final zero, checksum.
	a.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		a.ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name))
	a.pad()
	a.write(data)
	a.pad()
}

// pad fills up to a multiple of four.
func (a *archive) pad() { a.write(make([]byte, -a.n&3)) }

func (a *archive) write(b []byte) {
	if a.err != nil {
		return
	}
	var n int
	n, a.err = a.w.Write(b)
	a.n += int64(n)
}
