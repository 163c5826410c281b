package collector

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/internal/daemon"
)

// check opens the target's files, and leaves them as they are.
func (t Target) check() error {
	errs := []error{
		daemon.CheckSecret("basic_auth.password_file", t.BasicAuth.PasswordFile),
		daemon.CheckSecret("bearer_token_file", t.BearerTokenFile),
		daemon.CheckAuthorities("tls.ca_file", t.TLS.CAFile),
		daemon.CheckPair("tls", t.TLS.CertFile, t.TLS.KeyFile),
	}
	for name, file := range t.HeaderFiles {
		errs = append(errs, daemon.CheckSecret("header_files."+name, file))
	}
	if t.File != "" {
		errs = append(errs, checkFile(t.File))
	}
	return errors.Join(errs...)
}

// checkFile tells whether openFile would take the file, without making or
// claiming it: a collector may be at work on it.
func checkFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		dir := filepath.Dir(path)
		if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
			return fmt.Errorf("file %s: no file can be made in %s: %w", path, dir, err)
		}
		return nil
	case errors.Is(err, unix.ELOOP):
		return errLink(path)
	case err != nil:
		return err
	}
	defer file.Close()
	_, err = plain(file)
	if err == nil {
		err = isOurs(file)
	}
	if err == nil {
		err = unix.Access(path, unix.W_OK)
	}
	if err != nil {
		return fmt.Errorf("file %s: %w", path, err)
	}
	return nil
}
