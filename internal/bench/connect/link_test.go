package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/internal/testutil"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == workerArg {
		exit(serve(os.Stdin, os.Stdout, os.Args[2:]))
	}
	os.Exit(m.Run())
}

func TestAllIsMeasuredWithAndWithoutTheGateAndItsWall(t *testing.T) {
	testutil.Privileged(t)
	noFirewall := slices.DeleteFunc(slices.Clone(allRoles), func(r role) bool { return r.firewall != "" })
	var out strings.Builder
	if err := measure(t.Context(), &out, options{rounds: 1, batches: 2, cpu: -1}, 10, noFirewall); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(allKinds()) {
		t.Fatalf("%d lines for %d kinds:\n%s", len(lines), len(allKinds()), &out)
	}
	for i, k := range allKinds() {
		want := []string{gated, noise}
		if k.linked() {
			want = []string{gated, onLink, noise}
		}
		f := strings.Fields(lines[i])
		var units []string
		for j := 5; j < len(f); j += 2 {
			units = append(units, f[j])
		}
		if f[0] != fmt.Sprintf("BenchmarkCost/%s/10", k.name) || !slices.Equal(units, want) {
			t.Errorf("%q, want the numbers of %v", lines[i], want)
		}
	}
}

// here is a link that is none: who sends sits beside the receiver.
func here(t *testing.T) (*link, *worker) {
	t.Helper()
	l := &link{near: nowhere, far: nowhere}
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
	if err := l.listen(100); err != nil {
		t.Fatal(err)
	}
	k := &worker{buffer: make([]byte, chunk), links: map[string]int{}}
	t.Cleanup(func() {
		for _, fd := range k.links {
			unix.Close(fd)
		}
	})
	return l, k
}

// send makes the worker send that often, instead of what a turn says.
func (k *worker) send(t turn, n int) error {
	t.To = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), t.To.Port())
	if err := k.prepare(t); err != nil {
		return err
	}
	return k.batch(t.Kind, k.destinations(t)[:n])
}

func TestWhatIsSentOverALinkMustArrive(t *testing.T) {
	for _, kind := range []string{linkSendto, linkUDP, linkStream} {
		for _, lost := range []int{0, 1} {
			l, k := here(t)
			if err := unix.SetsockoptTimeval(l.udp, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 1}); err != nil {
				t.Fatal(err)
			}
			_, err := l.over(turn{Kind: kind, Batches: 1}, func(t turn) ([]float64, error) {
				err := k.send(t, batch-lost)
				if kind == linkStream {
					err = errors.Join(err, unix.Shutdown(k.links[kind], unix.SHUT_WR))
				}
				return nil, err
			})
			if (err != nil) != (lost > 0) {
				t.Errorf("%s, %d of %d lost: %v", kind, lost, batch, err)
			}
		}
	}
}
