package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/policy"
)

const statusLong = `Show what each host enforces: its workloads with their mode and where it comes
from, the revision and number of their rules, their decisions since the gate was
pinned, and whether the gate covers all that they can do; if not, the workload is
degraded, and what is open is listed with its cure. One in mode allow is not judged.

Ends with 5 when a host does not answer or its gate is not attached. A problem
alone, such as a policy log that is lost, leaves the last good policy in force.`

// statusCommand shows how the hosts stand.
func statusCommand(a *app) *cobra.Command {
	var host string
	c := &cobra.Command{
		Use: "status", Short: "Show what is enforced, and what is not", Long: statusLong,
		Example: "  egw status\n  egw status --host web-1 -o json",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return showStatus(c.Context(), a, host) },
	}
	c.Flags().StringVar(&host, "host", "", "this host alone")
	return c
}

func showStatus(ctx context.Context, a *app, host string) error {
	all, err := askStatuses(ctx, a, host)
	if err != nil {
		return err
	}
	if a.output == "json" {
		err = printJSON(a.stdout, all)
	} else {
		err = printStatuses(a.stdout, all, a.now())
	}
	return errors.Join(err, unhealthy(all))
}

func askStatuses(ctx context.Context, a *app, host string) ([]hostStatus, error) {
	l, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	names, err := hosts(ctx, l, host)
	if err != nil {
		return nil, err
	}
	return statuses(ctx, l, names), nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func printStatuses(w io.Writer, all []hostStatus, now time.Time) error {
	out := bufio.NewWriter(w)
	for i, h := range all {
		if i > 0 {
			fmt.Fprintln(out)
		}
		if h.Status == nil {
			fmt.Fprintf(out, "HOST %s  NO ANSWER: %s\n", printable(h.Host), printable(h.Error))
			continue
		}
		printHost(out, h.Status, now)
		printWorkloads(out, h.Status.Workloads)
	}
	return out.Flush()
}

// printHost is what holds for a host as a whole.
func printHost(out io.Writer, s *enforcer.Status, now time.Time) {
	state := "enforcing"
	if !s.Enforcing {
		state = "NOT ENFORCING: the gate is not attached"
	}
	docker := "docker connected"
	if !s.Docker {
		docker = "DOCKER AWAY"
	}
	fmt.Fprintf(out, "HOST %s  %s, %s, policy revision %d, enforcer %s up %s\n",
		printable(s.Host), state, docker, s.Revision, printable(s.Version), now.Sub(s.Started).Round(time.Second))
	fmt.Fprintf(out, "  starts: %d known at birth, %d unknown (unknown containers: %s)\n", s.BirthsKnown, s.BirthsUnknown, s.UnknownMode)
	if d := s.UnknownCounter; d.Allow+d.Deny+d.WouldDeny > 0 {
		fmt.Fprintf(out, "  unknown containers: %d allowed, %d denied, %d would be denied\n", d.Allow, d.Deny, d.WouldDeny)
	}
	if s.EventsWaiting {
		fmt.Fprintln(out, "  events wait to be written to the event log")
	}
	for _, open := range s.Open {
		fmt.Fprintf(out, "  open: %s\n", printable(open))
	}
	for _, problem := range s.Problems {
		fmt.Fprintf(out, "  problem: %s\n", printable(problem))
	}
}

const workloadHeader = "WORKLOAD\tMODE\tFROM\tREVISION\tRULES\tCONTAINERS\tALLOWED\tDENIED\tWOULD DENY\tCOVERED"

func printWorkloads(out io.Writer, workloads []enforcer.WorkloadStatus) {
	if len(workloads) == 0 {
		fmt.Fprintln(out, "  no containers")
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, workloadHeader)
	for _, s := range workloads {
		d := s.Decisions
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%d\t%d\t%d\t%s\n", printable(s.Workload), s.Mode, dash(s.ModeFrom), s.Revision, s.Rules,
			running(s), d.Allow, d.Deny, d.WouldDeny, covered(s))
	}
	_ = w.Flush() // into a buffer; its own Flush tells
	for _, s := range workloads {
		printProblems(out, s)
		printOpen(out, s)
	}
}

// printProblems tells what has no column.
func printProblems(out io.Writer, s enforcer.WorkloadStatus) {
	for _, c := range s.Containers {
		if c.Problem != "" {
			fmt.Fprintf(out, "  %s: blocked: %s\n", printable(c.Name), printable(c.Problem))
		}
	}
	if n := s.Decisions.Overflow; n > 0 {
		fmt.Fprintf(out, "  %s: %d decisions were counted without their destination\n", printable(s.Workload), n)
	}
}

// running is such as 2, or 1 of 2.
func running(s enforcer.WorkloadStatus) string {
	n := 0
	for _, c := range s.Containers {
		if c.Running {
			n++
		}
	}
	if n == len(s.Containers) {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d of %d", n, len(s.Containers))
}

// covered is yes where the gate sees all of a workload that it judges, and that
// runs.
func covered(s enforcer.WorkloadStatus) string {
	switch {
	case s.Degraded:
		return "degraded"
	case s.Mode == policy.ModeAllow || !slices.ContainsFunc(s.Containers, func(c enforcer.ContainerStatus) bool { return c.Running }):
		return "-"
	}
	return "yes"
}

// printOpen tells what the gate does not cover of a workload that it judges,
// each reason once.
func printOpen(out io.Writer, s enforcer.WorkloadStatus) {
	if !s.Degraded {
		return
	}
	var reasons []string
	of := map[string][]string{}
	for _, c := range s.Containers {
		for _, o := range c.Open {
			if of[o] == nil {
				reasons = append(reasons, o)
			}
			of[o] = append(of[o], printable(c.Name))
		}
	}
	for _, o := range reasons {
		fmt.Fprintf(out, "  %s is degraded: %s (%s)\n", printable(s.Workload), printable(o), someOf(of[o]))
	}
}
