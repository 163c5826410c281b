package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/learner"
)

// learnerWait is how long a learner has to answer.
const learnerWait = time.Minute

// readinessCommand tells which workloads may leave learn mode.
func readinessCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "readiness [WORKLOAD]", Short: "Tell which workloads may leave learn mode", Args: cobra.MaximumNArgs(1),
		Long: "Tell which workloads may leave learn mode, and what is missing. The running learner\n" +
			"answers; without one the recorded flows are read here.",
		ValidArgsFunction: a.policyNames,
		RunE: func(c *cobra.Command, args []string) error {
			return showReadiness(c.Context(), a, strings.Join(args, ""))
		},
	}
}

func showReadiness(ctx context.Context, a *app, workload string) error {
	l, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	all, err := askReadiness(ctx, l)
	if errors.Is(err, eventlog.ErrNoAnswer) {
		all, err = readReadiness(ctx, l, a.now())
	}
	if err != nil {
		return err
	}
	if workload != "" {
		all = slices.DeleteFunc(all, func(r learner.Readiness) bool { return r.Workload != workload })
		if len(all) == 0 {
			return coded{fmt.Errorf("no traffic of a workload %q was recorded", workload), errNotFound}
		}
	}
	if a.output == "json" {
		return a.json(append([]learner.Readiness{}, all...))
	}
	return printReadiness(a.stdout, all)
}

func askReadiness(ctx context.Context, l *eventlog.Log) ([]learner.Readiness, error) {
	ctx, cancel := context.WithTimeout(ctx, learnerWait)
	defer cancel()
	data, err := l.Ask(ctx, learner.AskHost, learner.AskReadiness, nil)
	if err != nil {
		return nil, err
	}
	var all []learner.Readiness
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("answer of the learner: %w", err)
	}
	return all, nil
}

// readReadiness does the learner's work once.
func readReadiness(ctx context.Context, l *eventlog.Log, now time.Time) ([]learner.Readiness, error) {
	know := learner.New(learner.Options{})
	for e, err := range l.PolicyEvents(ctx, 0, false) {
		if errors.Is(err, eventlog.ErrMessage) {
			continue
		}
		if err != nil {
			return nil, err
		}
		know.Policy(e.Revision, e.Event)
	}
	for e, err := range l.FlowEntries(ctx, 0, false) {
		if errors.Is(err, eventlog.ErrMessage) {
			continue
		}
		if err != nil {
			return nil, err
		}
		know.Flows(e.Sequence, e.Flows)
	}
	for e, err := range l.HostEvents(ctx, eventlog.HostQuery{Since: now.Add(-learner.DefaultOptions().Window)}) {
		if errors.Is(err, eventlog.ErrMessage) {
			continue
		}
		if err != nil {
			return nil, err
		}
		know.Host(e)
	}
	return know.Readiness(now)
}

func printReadiness(w io.Writer, all []learner.Readiness) error {
	var rows [][]string
	for _, r := range all {
		ready, missing := "yes", []string{""}
		if !r.Ready {
			ready, missing = "no", r.Reasons
		}
		rows = append(rows, []string{r.Workload, r.Mode, ready, strconv.Itoa(r.Days), strconv.Itoa(r.Starts), instant(r.LastNew),
			strconv.Itoa(r.Open), strconv.FormatUint(r.Lost, 10), missing[0]})
		for _, m := range missing[1:] {
			rows = append(rows, []string{" ", " ", " ", " ", " ", " ", " ", " ", m})
		}
	}
	return columns(w, []string{"WORKLOAD", "MODE", "READY", "DAYS", "STARTS", "LAST NEW", "OPEN", "LOST", "MISSING"}, rows)
}
