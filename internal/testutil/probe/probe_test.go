package probe

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// server runs Serve on a free port and returns it.
func server(t *testing.T, o ServeOptions) uint16 {
	t.Helper()
	for o.Port = 20000; ; o.Port++ {
		ctx, cancel := context.WithCancel(t.Context())
		ready, end := make(chan struct{}), make(chan error, 1)
		go func() { end <- Serve(ctx, o, func() { close(ready) }) }()
		select {
		case <-ready:
			t.Cleanup(func() {
				cancel()
				if err := <-end; err != nil {
					t.Error(err)
				}
			})
			return o.Port
		case err := <-end:
			cancel()
			if !errors.Is(err, unix.EADDRINUSE) {
				t.Fatal(err)
			}
		}
	}
}

func TestTechniquesReachAnEchoServer(t *testing.T) {
	port := server(t, ServeOptions{Family: "dual"})
	for _, ip := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
		to := netip.AddrPortFrom(netip.MustParseAddr(ip), port)
		for _, how := range append(Techniques("tcp"), Techniques("udp")...) {
			t.Run(how+" "+ip, func(t *testing.T) {
				r := Dial(how, to, time.Minute)
				if !r.OK && !r.Unavailable {
					t.Error(r)
				}
			})
		}
	}
}

func TestServersAnswer(t *testing.T) {
	for _, o := range []ServeOptions{
		{Family: "4"}, {Family: "4", Connected: true},
		{Family: "6"}, {Family: "6", Connected: true},
		{Family: "dual"}, {Family: "dual", Connected: true},
	} {
		port := server(t, o)
		ips := []string{"127.0.0.1", "::1"}
		switch o.Family {
		case "4":
			ips = ips[:1]
		case "6":
			ips = ips[1:]
		}
		for _, ip := range ips {
			for _, how := range []string{"tcp", "udp_sendto", "udp_connected"} {
				to := netip.AddrPortFrom(netip.MustParseAddr(ip), port)
				if r := Dial(how, to, time.Minute); !r.OK {
					t.Errorf("%+v: %v", o, r)
				}
			}
		}
	}
}

func TestRefusalIsReportedByName(t *testing.T) {
	to := netip.MustParseAddrPort("127.0.0.1:1")
	for _, how := range []string{"tcp", "tcp_nonblocking", "tcp_fastopen_sendto"} {
		r := Dial(how, to, time.Minute)
		if r.OK || r.Denied() || r.Errno != "ECONNREFUSED" {
			t.Errorf("%s: %+v, want ECONNREFUSED", how, r)
		}
	}
}

func TestProgram(t *testing.T) {
	port := server(t, ServeOptions{Family: "4"})
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String()
	t.Run("dial prints a line per attempt", func(t *testing.T) {
		var out, errs bytes.Buffer
		if rc := Main([]string{"dial", "-how", "tcp,udp_sendmsg", "-to", to}, &out, &errs); rc != 0 {
			t.Fatalf("exit %d: %s", rc, &errs)
		}
		rs, err := Parse(&out)
		if err != nil || len(rs) != 2 || !rs[0].OK || !rs[1].OK {
			t.Fatalf("%v, %v", rs, err)
		}
	})
	t.Run("loop tallies", func(t *testing.T) {
		var out, errs bytes.Buffer
		if rc := Main([]string{"loop", "-rounds", "3", "-to", to}, &out, &errs); rc != 0 {
			t.Fatalf("exit %d: %s", rc, &errs)
		}
		if !strings.Contains(out.String(), `"attempts":3,"ok":3,"denied":0,"failed":0`) {
			t.Fatal(out.String())
		}
	})
	t.Run("every technique has its verb", func(t *testing.T) {
		for _, how := range Techniques("") {
			var out, errs bytes.Buffer
			if rc := Main([]string{"dial", "-how", how, "-to", to}, &out, &errs); rc != 0 {
				t.Errorf("dial %s: exit %d, %s", how, rc, &errs)
			}
		}
	})
	for _, args := range [][]string{nil, {"fly"}, {"hold", "-how", "tcp", "-to", to}, {"dial", "-how", "tcp_idle", "-to", to}, {"dial", "-how", "no"}, {"dial", "-to", "x"}} {
		var out, errs bytes.Buffer
		if rc := Main(args, &out, &errs); rc != 2 || errs.Len() == 0 {
			t.Errorf("%v: exit %d, %q", args, rc, &errs)
		}
	}
}
