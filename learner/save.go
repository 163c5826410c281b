package learner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

func (s *service) load() error {
	s.learner = New(s.Options)
	if s.Snapshot == "" {
		return nil
	}
	data, err := os.ReadFile(s.Snapshot)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load evidence: %w", err)
	}
	if s.learner, err = Decode(s.Options, data); err != nil {
		return fmt.Errorf("load evidence %s: %w (remove the file, and the recorded flows are read again from the first)", s.Snapshot, err)
	}
	s.saved = s.learner.Covered()
	return nil
}

// save writes the snapshot aside and renames it, so that there is always a
// whole one.
func (s *service) save() error {
	s.mu.Lock()
	covered := s.learner.Covered()
	if s.Snapshot == "" || covered == s.saved {
		s.mu.Unlock()
		return nil
	}
	data, err := s.learner.Encode()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err := writeFile(s.Snapshot, data); err != nil {
		return fmt.Errorf("save evidence: %w", err)
	}
	s.saved = covered
	return nil
}

func writeFile(name string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
