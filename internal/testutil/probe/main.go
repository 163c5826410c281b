package probe

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Main runs the program with its arguments, without its name:
//
//	dial -how NAME,... -to ADDR:PORT,... [-timeout D] [-move CGROUP]
//	loop -how NAME,... -to ADDR:PORT,... [-rounds N] [-pause D] [-stay]
//	flood -to PREFIX [-count N] [-port N] [-rounds N] [-pause D]
//	hold -how NAME,... -to ADDR:PORT,...
//	serve -family 4|6|dual -port N [-connected]
//	resolve NAME...
//	stay
//
// hold keeps connections in use until a signal, see hold. loop tallies each
// combination of technique and address, flood sends datagrams and waits for
// nothing; they print when they end, which a SIGTERM brings about. The exit code is 2 for wrong usage and 0
// for whatever the network answered.
func Main(args []string, out, errs io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, args, json.NewEncoder(out)); err != nil {
		fmt.Fprintln(errs, "probe:", err)
		return 2
	}
	return 0
}

func run(ctx context.Context, args []string, out *json.Encoder) error {
	if len(args) == 0 {
		return errors.New("want a verb: dial, loop, hold, flood, serve, resolve or stay")
	}
	switch args[0] {
	case "dial":
		return runDial(args[1:], out)
	case "loop":
		return runLoop(ctx, args[1:], out)
	case "flood":
		return runFlood(ctx, args[1:], out)
	case "hold":
		targets, err := newTargetFlags("hold").targets(args[1:])
		if err == nil {
			hold(ctx, targets, out)
		}
		return err
	case "serve":
		return runServe(ctx, args[1:], out)
	case "resolve":
		return runResolve(ctx, args[1:], out)
	case "stay":
		<-ctx.Done()
		return nil
	}
	return fmt.Errorf("unknown verb %q", args[0])
}

// targetFlags are those of dial and loop.
type targetFlags struct {
	*flag.FlagSet
	how, to string
	timeout time.Duration
}

func newTargetFlags(name string) *targetFlags {
	f := &targetFlags{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError)}
	f.StringVar(&f.how, "how", "tcp", "techniques, separated by commas")
	f.StringVar(&f.to, "to", "", "addresses with ports, separated by commas")
	f.DurationVar(&f.timeout, "timeout", 20*time.Second, "of each attempt")
	return f
}

func (f *targetFlags) targets(args []string) ([]Target, error) {
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	var all []Target
	for how := range strings.SplitSeq(f.how, ",") {
		known := techniques[how] != nil
		if f.Name() == "hold" {
			_, known = holdings[how]
		}
		if !known {
			return nil, fmt.Errorf("unknown technique %q of %s", how, f.Name())
		}
		for to := range strings.SplitSeq(f.to, ",") {
			a, err := netip.ParseAddrPort(to)
			if err != nil {
				return nil, err
			}
			all = append(all, Target{how, a})
		}
	}
	return all, nil
}

func runDial(args []string, out *json.Encoder) error {
	f := newTargetFlags("dial")
	move := f.String("move", "", "cgroup's folder to move to at first, which is a result as well")
	targets, err := f.targets(args)
	if err != nil {
		return err
	}
	if *move != "" {
		r := Result{How: "move", To: *move, StartNs: Monotonic()}
		r.fill(step("write", os.WriteFile(filepath.Join(*move, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0)))
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	for _, t := range targets {
		if err := out.Encode(Dial(t.How, t.To, f.timeout)); err != nil {
			return err
		}
	}
	return nil
}

func runLoop(ctx context.Context, args []string, out *json.Encoder) error {
	f := newTargetFlags("loop")
	rounds := f.Int("rounds", 0, "0 = until a signal")
	pause := f.Duration("pause", 0, "between rounds")
	stay := f.Bool("stay", false, "after the rounds, until a signal")
	targets, err := f.targets(args)
	if err != nil {
		return err
	}
	for _, t := range Loop(ctx, targets, *rounds, *pause, f.timeout) {
		if err := out.Encode(t); err != nil {
			return err
		}
	}
	if *stay {
		<-ctx.Done()
	}
	return nil
}

func runServe(ctx context.Context, args []string, out *json.Encoder) error {
	f := flag.NewFlagSet("serve", flag.ContinueOnError)
	family := f.String("family", "dual", "4, 6 or dual")
	port := f.Uint("port", 7, "for TCP and UDP")
	connected := f.Bool("connected", false, "answer UDP from connected sockets")
	if err := f.Parse(args); err != nil {
		return err
	}
	o := ServeOptions{Family: *family, Port: uint16(*port), Connected: *connected}
	return Serve(ctx, o, func() { _ = out.Encode(Result{How: "serve", OK: true}) })
}

func runResolve(ctx context.Context, names []string, out *json.Encoder) error {
	for _, name := range names {
		r := Result{How: "resolve", To: name, StartNs: Monotonic()}
		addrs, err := (&net.Resolver{PreferGo: true}).LookupHost(ctx, name)
		r.Addrs = addrs
		r.fill(err)
		r.Ns = Monotonic() - r.StartNs
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	return nil
}
