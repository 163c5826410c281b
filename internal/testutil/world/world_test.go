package world

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/probe"
	"golang.org/x/sys/unix"
)

// tellEnv makes this test binary a command that tells its network namespace.
const tellEnv = "EGW_TELL_NAMESPACE"

func TestMain(m *testing.M) {
	if os.Getenv(tellEnv) == "" {
		os.Exit(m.Run())
	}
	own, err := os.Readlink("/proc/self/ns/net")
	fmt.Println(own)
	if err != nil {
		os.Exit(1)
	}
}

func dial(t *testing.T, w *World, how, to string) probe.Result {
	t.Helper()
	var r probe.Result
	err := w.Host.Do(func() error {
		r = probe.Dial(how, netip.MustParseAddrPort(to), time.Minute)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWorld(t *testing.T) {
	w := New(t)
	c := w.Capture(t)
	quiet := w.Capture(t, netip.MustParsePrefix("203.0.113.128/25"), netip.MustParsePrefix("2001:db8:f::/48"))

	t.Run("every owned address answers in every way", func(t *testing.T) {
		for _, p := range Owned {
			a := p.Addr()
			if !p.IsSingleIP() {
				a = a.Next().Next()
			}
			to := netip.AddrPortFrom(a, 443)
			for _, how := range append(probe.Techniques("tcp"), probe.Techniques("udp")...) {
				if r := dial(t, w, how, to.String()); !r.OK && !r.Unavailable {
					t.Error(r)
				}
			}
			if c.Count(t, a, 443) == 0 {
				t.Errorf("the capture did not see %s", a)
			}
		}
		if r := dial(t, w, "tcp", "[::ffff:203.0.113.9]:80"); !r.OK {
			t.Error(r)
		}
	})
	t.Run("a capture with prefixes sees those alone", func(t *testing.T) {
		if seen := quiet.Seen(t); len(seen) != 0 {
			t.Errorf("seen %v, want nothing", seen)
		}
		dial(t, w, "udp_sendto", "203.0.113.129:53")
		dial(t, w, "udp_sendto", "203.0.113.1:53")
		dial(t, w, "udp_sendto", "[2001:db8:f::1]:53")
		dial(t, w, "udp_sendto", "[2001:db8:e::1]:53")
		if seen := quiet.Seen(t); len(seen) != 2 {
			t.Errorf("seen %v, want two destinations", seen)
		}
		if n := quiet.Count(t, netip.MustParseAddr("2001:db8:f::1"), 53); n != 1 {
			t.Errorf("%d packets, want 1", n)
		}
	})
	t.Run("a SYN to a closed port and to an address nobody owns is seen", func(t *testing.T) {
		if r := dial(t, w, "tcp", "203.0.113.9:9"); r.Errno != "ECONNREFUSED" {
			t.Error(r)
		}
		if n := c.Count(t, netip.MustParseAddr("203.0.113.9"), 9); n != 1 {
			t.Errorf("%d SYNs, want 1", n)
		}
		if r := dial(t, w, "tcp", "9.9.9.9:443"); r.OK || r.Denied() {
			t.Error(r)
		}
		if n := c.Count(t, netip.MustParseAddr("9.9.9.9"), 443); n == 0 {
			t.Error("the packet to 9.9.9.9 went elsewhere")
		}
	})
	t.Run("a command starts inside", func(t *testing.T) {
		self, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = []string{tellEnv + "=1"}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Host.Start(cmd); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, _ := out.Read(buf)
		if err := cmd.Wait(); err != nil || n == 0 || string(buf[:n-1]) == self {
			t.Errorf("it ran in %q, the test in %q: %v", buf[:n], self, err)
		}
	})
	t.Run("a server inside is reached from outside", func(t *testing.T) { fromOutside(t, w) })
}

func fromOutside(t *testing.T, w *World) {
	ctx, cancel := context.WithCancel(t.Context())
	ready, end := make(chan struct{}), make(chan error, 1)
	go func() {
		end <- w.Host.Do(func() error {
			return probe.Serve(ctx, probe.ServeOptions{Family: "dual", Port: 9000}, func() { close(ready) })
		})
	}()
	<-ready
	for _, a := range []netip.Addr{HostAddr4, HostAddr6} {
		_ = w.World.Do(func() error {
			for _, how := range []string{"tcp", "udp_connected"} {
				if r := probe.Dial(how, netip.AddrPortFrom(a, 9000), time.Minute); !r.OK {
					t.Error(r)
				}
			}
			return nil
		})
	}
	cancel()
	if err := <-end; err != nil {
		t.Error(err)
	}
}

func TestLeftoversAreReplaced(t *testing.T) {
	testutil.Privileged(t)
	for _, name := range []string{hostName, worldName} {
		n, err := newNamespace(name)
		if err != nil {
			t.Fatal(err)
		}
		n.nl.Close()
		n.fd.Close() // a crash closes what was open and leaves the name
	}
	w := New(t)
	if r := dial(t, w, "tcp", "203.0.113.9:80"); !r.OK {
		t.Error(r)
	}
}

func TestParse(t *testing.T) {
	four := []byte{0x46, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 1, 2, 3, 4, 9, 8, 7, 6, 0, 0, 0, 0, 0x12, 0x34, 0x01, 0xbb}
	six := make([]byte, 44)
	six[0], six[6], six[39], six[42], six[43] = 0x60, unix.IPPROTO_TCP, 1, 0, 53
	for name, tc := range map[string]struct {
		in   []byte
		want string
	}{
		"IPv4 with options":   {four, `{"Proto":17,"Dst":"9.8.7.6:443"}`},
		"IPv6":                {six, `{"Proto":6,"Dst":"[::1]:53"}`},
		"no ports in a scrap": {four[:24], `{"Proto":17,"Dst":"9.8.7.6:0"}`},
	} {
		t.Run(name, func(t *testing.T) {
			k, ok := parse(tc.in)
			got, err := json.Marshal(k)
			if !ok || err != nil || string(got) != tc.want {
				t.Errorf("%s, %v, want %s", got, ok, tc.want)
			}
		})
	}
	for _, b := range [][]byte{nil, {0, 1}, four[:19], six[:39]} {
		if k, ok := parse(b); ok {
			t.Errorf("parsed % x as %v", b, k)
		}
	}
}
