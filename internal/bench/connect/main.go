// Command connect measures what the gate costs a socket, a connect, a datagram and
// a send, beside an nftables set of the same prefixes, and what its walls cost on a
// link like a container's.
//
// Workers are processes of their own, each in a network namespace of its own
// and pinned to one CPU. They take turns within each round: one is born in a
// cgroup under the gate, two outside (their difference is the noise), one has
// the nftables set in its output hook, and one the set behind connection
// tracking. Each turn gives the median of a few dozen batches; each result is
// the median over the rounds of a worker's time by that of the worker without
// anything. All destinations are in 127.0.0.0/8 and allowed. A reader takes and
// commits the events and sweeps each second meanwhile, and at the end the
// gate's counters must be the number of what the worker did.
//
// The first three have a link besides, to a network namespace of its own in which
// this command receives, on the other CPU: nothing else is in the two, and no packet
// leaves them. So has a fourth, whose cgroup is that of the first and whose link
// has the gate's wall at its far end. All that is sent must arrive.
//
// It prints lines as Go's benchmarks do, and needs root and nft.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

type options struct {
	rounds, batches int
	sizes           []int
	cpu             int
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == workerArg {
		exit(serve(os.Stdin, os.Stdout, os.Args[2:]))
	}
	o := options{}
	flag.IntVar(&o.rounds, "rounds", 24, "interleaved rounds")
	flag.IntVar(&o.batches, "batches", 20, "batches of a turn")
	flag.IntVar(&o.cpu, "cpu", 1, "CPU of the workers")
	sizes := flag.String("prefixes", "10,1000,100000", "sizes of the policy")
	flag.Parse()
	for s := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(s)
		if err != nil {
			exit(fmt.Errorf("prefixes: %w", err))
		}
		o.sizes = append(o.sizes, n)
	}
	exit(run(context.Background(), o))
}

func exit(err error) {
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, "connect:", err)
	os.Exit(1)
}

func run(ctx context.Context, o options) error {
	if err := leave(o.cpu); err != nil {
		return err
	}
	for _, n := range o.sizes {
		if err := measure(ctx, os.Stdout, o, n, allRoles); err != nil {
			return fmt.Errorf("%d prefixes: %w", n, err)
		}
	}
	return nil
}

// measure makes all rounds with one size of the policy.
func measure(ctx context.Context, w io.Writer, o options, n int, roles []role) (err error) {
	g, err := openGate(n)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := g.close(); err == nil {
			err = closeErr
		}
	}()
	stop := g.read(ctx)
	c, err := startCrew(g, o, n, roles)
	if err == nil {
		err = c.rounds(o)
	}
	if endErr := c.end(); err == nil {
		err = endErr
	}
	if readErr := stop(); err == nil {
		err = readErr
	}
	if err != nil {
		return err
	}
	if err := g.check(c.decided); err != nil {
		return err
	}
	c.print(w, n)
	return nil
}
