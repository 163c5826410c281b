package probe

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// FloodOptions say what Flood sends.
type FloodOptions struct {
	// Prefix has the addresses; Count of them are taken, the first first.
	Prefix netip.Prefix
	Count  int
	Port   uint16
	// Rounds are how often, 0 without end; Pause is between them.
	Rounds int
	Pause  time.Duration
}

// Flood sends a datagram to each address, round after round, until ctx ends,
// and waits for no answer: the fastest way to make decisions.
func Flood(ctx context.Context, o FloodOptions) (Tally, error) {
	t := Tally{How: "flood", To: o.Prefix.String(), Errors: map[string]int{}}
	fd, err := unix.Socket(domain(o.Prefix.Addr()), unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return t, fmt.Errorf("flood %s: %w", o.Prefix, err)
	}
	defer unix.Close(fd)
	for n := 0; ctx.Err() == nil && (o.Rounds == 0 || n < o.Rounds); n++ {
		to := o.Prefix.Addr()
		for i := 0; i < o.Count && ctx.Err() == nil; i++ {
			t.add(flooded(unix.Sendto(fd, []byte{1}, unix.MSG_DONTWAIT, sockaddr(netip.AddrPortFrom(to, o.Port)))))
			to = to.Next()
		}
		select {
		case <-ctx.Done():
		case <-time.After(o.Pause):
		}
	}
	return t, nil
}

// flooded judges a send: what found no room in a queue was let out.
func flooded(err error) (r Result) {
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) {
		err = nil
	}
	r.fill(step("sendto", err))
	return r
}

func runFlood(ctx context.Context, args []string, out *json.Encoder) error {
	f := flag.NewFlagSet("flood", flag.ContinueOnError)
	var o FloodOptions
	f.TextVar(&o.Prefix, "to", netip.Prefix{}, "network of the addresses")
	f.IntVar(&o.Count, "count", 1, "addresses, from the first of the network")
	port := f.Uint("port", 9, "at each")
	f.IntVar(&o.Rounds, "rounds", 0, "0 = until a signal")
	f.DurationVar(&o.Pause, "pause", 0, "between rounds")
	if err := f.Parse(args); err != nil {
		return err
	}
	o.Port = uint16(*port)
	t, err := Flood(ctx, o)
	if err != nil {
		return err
	}
	return out.Encode(t)
}
