package collector

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/grafana/loki-client-go/pkg/backoff"
	"golang.org/x/sys/unix"
)

// ErrForeign is a file that is not the collector's to append to.
var ErrForeign = errors.New("not a file of the collector's")

// File is the sink that appends lines to a file and brings each round to the
// disk. Somebody may rename or truncate the file meanwhile, as logrotate does.
type File struct {
	path     string
	problems *problems
	backoff  backoff.BackoffConfig

	mu   sync.Mutex
	file *os.File
}

// Deliver appends the round and syncs; it tries until that works.
func (f *File) Deliver(ctx context.Context, round []Group) error {
	text := appendLines(nil, round)
	f.mu.Lock()
	defer f.mu.Unlock()
	b := backoff.New(ctx, f.backoff)
	defer f.problems.forget(f.path)
	for {
		err := f.write(text)
		if err == nil {
			f.problems.clear(f.path)
			return nil
		}
		f.problems.set(f.path, fileCure(f.path, err))
		if err := wait(ctx, b, 0); err != nil {
			return err
		}
	}
}

// appendLines writes one line each: JSON may have line feeds between its parts.
func appendLines(dst []byte, round []Group) []byte {
	for _, g := range round {
		for i := range g.Entries {
			dst = append(append(dst, strings.ReplaceAll(g.Entries[i].Line, "\n", " ")...), '\n')
		}
	}
	return dst
}

func fileCure(path string, err error) string {
	switch {
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		return fmt.Sprintf("file %s cannot be written: its disk is full: make room", path)
	case errors.Is(err, os.ErrPermission):
		return fmt.Sprintf("file %s cannot be written (%v): give the collector's user the right to", path, err)
	}
	return fmt.Sprintf("file %s cannot be written: %v", path, err)
}

// write appends the round whole or not at all.
func (f *File) write(text []byte) error {
	if err := f.reopen(); err != nil {
		return err
	}
	before, err := f.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	_, err = f.file.Write(text)
	if err == nil {
		err = f.file.Sync()
	}
	if err == nil {
		return nil
	}
	// Half a round would be there twice.
	err = errors.Join(err, f.file.Truncate(before), f.file.Close())
	f.file = nil
	return err
}

// reopen opens the file, anew when the name has come to mean another.
func (f *File) reopen() error {
	if f.file != nil {
		have, err := f.file.Stat()
		if err != nil {
			return err
		}
		if named, err := os.Stat(f.path); err == nil && os.SameFile(have, named) {
			return nil
		}
		err = f.file.Close()
		f.file = nil
		if err != nil {
			return err
		}
	}
	var err error
	f.file, err = openFile(f.path)
	return err
}

// openFile opens or makes the file, or refuses it with ErrForeign: it must be a
// plain file of our own user, no other collector's, and hold JSON lines. A last
// line without an end, which a crash may leave, is cut off: its event was not
// acknowledged and comes again.
func openFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if errors.Is(err, unix.ELOOP) {
		return nil, errLink(path)
	}
	if err != nil {
		return nil, err
	}
	if err := claim(file); err != nil {
		return nil, errors.Join(fmt.Errorf("file %s: %w", path, err), file.Close())
	}
	return file, nil
}

func errLink(path string) error {
	return fmt.Errorf("file %s is a symbolic link: %w", path, ErrForeign)
}

// plain gives what the system says of a file, which must be a plain one.
func plain(file *os.File) (stat unix.Stat_t, err error) {
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return stat, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return stat, fmt.Errorf("it is no plain file: %w", ErrForeign)
	}
	return stat, nil
}

func claim(file *os.File) error {
	stat, err := plain(file)
	if err != nil {
		return err
	}
	if int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("it belongs to user %d: %w", stat.Uid, ErrForeign)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("another collector writes it: %w", ErrForeign)
	}
	if err := isOurs(file); err != nil {
		return err
	}
	end, err := lastLineEnd(file, stat.Size)
	if err != nil || end == stat.Size {
		return err
	}
	return file.Truncate(end)
}

// isOurs looks at the first line.
func isOurs(file *os.File) error {
	first, err := bufio.NewReader(io.NewSectionReader(file, 0, 64)).Peek(2)
	if errors.Is(err, io.EOF) && len(first) < 2 {
		if len(first) == 0 || first[0] == '{' {
			return nil
		}
	}
	if string(first) != `{"` {
		return fmt.Errorf("it does not begin with an event: %w", ErrForeign)
	}
	return nil
}

// lastLineEnd is the place behind the last line feed.
func lastLineEnd(file *os.File, size int64) (int64, error) {
	buffer := make([]byte, 64<<10)
	for end := size; end > 0; {
		n := min(int64(len(buffer)), end)
		if _, err := file.ReadAt(buffer[:n], end-n); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buffer[:n], '\n'); i >= 0 {
			return end - n + int64(i) + 1, nil
		}
		end -= n
	}
	return 0, nil
}

// Close gives the file up.
func (f *File) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// Stdout is the sink that prints lines.
type Stdout struct {
	out io.Writer
	mu  sync.Mutex
}

// Deliver prints the round. A closed output ends the collector.
func (s *Stdout) Deliver(_ context.Context, round []Group) error {
	text := appendLines(nil, round)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.out.Write(text); err != nil {
		return fmt.Errorf("write the standard output: %w", err)
	}
	return nil
}
