package testutil

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// NoThreadIn waits until no thread of this process is in a network namespace, named as
// by /proc: net:[4026531840].
func NoThreadIn(t testing.TB, foreign string) {
	t.Helper()
	// A thread's end is told to its starter before it is over.
	Eventually(t, "no thread is in the foreign namespace", func() error {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, task := range tasks {
			at, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net")
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
				continue
			}
			if err != nil || at == foreign {
				return fmt.Errorf("thread %s is in %s, %w", task.Name(), at, err)
			}
		}
		return nil
	})
}
