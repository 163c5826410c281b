package eventlog

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/egresswarden/egresswarden/schemas"
)

// syncSubject asks the embedded server to bring the policy log to the disk.
// The server has one sync interval for all streams, and to sync each pack of
// flows would cost most of the throughput.
const syncSubject = schemas.SubjectAsk + "=sync"

// serveSync answers syncSubject for the server in dir.
func serveSync(inner InProcess, dir string, log *slog.Logger) (*Log, error) {
	l, err := Connect(context.Background(), Options{InProcess: inner, Name: serverName + " sync", ReadOnly: true, Log: log})
	if err != nil {
		return nil, err
	}
	_, err = l.handle(syncSubject, func(context.Context, []byte) ([]byte, error) {
		return nil, syncStreams(dir, schemas.StreamPolicy)
	})
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// syncStreams brings every file of the streams of that name to the disk. The
// server has handed all that it acknowledged to the kernel already.
func syncStreams(dir, stream string) error {
	found, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", stream))
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fs.ErrNotExist
	}
	for _, root := range found {
		if err := filepath.WalkDir(root, syncEntry); err != nil {
			return err
		}
	}
	return nil
}

// syncEntry syncs a file or a directory; one that the server has replaced
// meanwhile needs no sync.
func syncEntry(path string, d fs.DirEntry, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !d.IsDir() && !d.Type().IsRegular() {
		return err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
