package bpf

import (
	"errors"
	"iter"
	"os"
	"strings"
	"syscall"
	"testing"
)

func privileged(t testing.TB) {
	t.Helper()
	if os.Getenv("EGW_PRIVILEGED") != "1" {
		t.Skip("needs root: set EGW_PRIVILEGED=1")
	}
}

func asErrno(err error, to *syscall.Errno) bool { return errors.As(err, to) }

func splitLines(s string) iter.Seq[string] { return strings.Lines(s) }
