package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/enforcer/doctor"
)

// doctorWait bounds all checks together.
const doctorWait = time.Minute

// probeCommandName is the hidden command that the doctor runs in a cgroup
// which the gate blocks.
const probeCommandName = "doctor-probe"

const doctorLong = `Look at this host and say what of the gate works, what does not, and what to do
about it: the kernel and what it has, the cgroup hierarchy, the pinned gate, the
programs of others on its hooks, Docker, and each container that can do what no
filter on its connects can hold. A probe proves that a denial happens: a process
in a cgroup that the gate blocks connects to documentation addresses, which sends
no packet, and must be refused; it is recorded as workload egw-doctor, reason
doctor, without a proposal or an alert. Needs root. Ends with 5 when a check failed.`

// doctorCommand checks this host.
func doctorCommand(a *app) *cobra.Command {
	var o doctor.Options
	c := &cobra.Command{
		Use: "doctor", Short: "Check this host, and prove that a denial happens", Long: doctorLong,
		Example: "  egw doctor\n  egw doctor -o json | jq '.[] | select(.level != \"ok\")'",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return runDoctor(c.Context(), a, o) },
	}
	c.Flags().StringVar(&o.Pins, "pins", enforcer.DefaultPins, "folder of the gate's pins")
	c.Flags().StringVar(&o.Docker, "docker", a.envOr("DOCKER_HOST", enforcer.DefaultConfig().Docker), "address of Docker's API ($DOCKER_HOST)")
	cgroupRootFlag(c, &o.CgroupRoot)
	return c
}

// cgroupRootFlag is for tests, which must not attach to the whole machine.
func cgroupRootFlag(c *cobra.Command, path *string) {
	c.Flags().StringVar(path, "cgroup-root", "", "cgroup that the gate is attached to; empty: the root of the hierarchy")
	_ = c.Flags().MarkHidden("cgroup-root")
}

func runDoctor(ctx context.Context, a *app, o doctor.Options) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the probe: %w", err)
	}
	o.Probe = []string{self, probeCommandName}
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	checks := doctor.Run(ctx, o)
	if a.output == "json" {
		err = printJSON(a.stdout, checks)
	} else {
		err = printChecks(a.stdout, checks)
	}
	return errors.Join(err, failedChecks(checks))
}

func printChecks(w io.Writer, checks []doctor.Check) error {
	out := bufio.NewWriter(w)
	for _, c := range checks {
		fmt.Fprintf(out, "%-4s  %s", c.Level, printable(c.Name))
		if c.Detail != "" {
			fmt.Fprintf(out, ": %s", printable(c.Detail))
		}
		fmt.Fprintln(out)
		if c.Cure != "" {
			fmt.Fprintf(out, "      %s\n", printable(c.Cure))
		}
	}
	return out.Flush()
}

func failedChecks(checks []doctor.Check) error {
	var names []string
	for _, c := range checks {
		if c.Level == doctor.Fail {
			names = append(names, c.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return coded{fmt.Errorf("failed: %s", someOf(names)), errUnhealthy}
}

// probeCommand is the body of the doctor's probe.
func probeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: probeCommandName, Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.stdout, doctor.Dial())
			return err
		},
	}
}
