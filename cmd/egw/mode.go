package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/egresswarden/egresswarden/operator"
	"github.com/egresswarden/egresswarden/policy"
)

// lookBack is how far a replay looks back before a workload is blocked.
const lookBack = 7 * 24 * time.Hour

// modeCommand sets the mode of a workload.
func modeCommand(a *app) *cobra.Command {
	var f changeFlags
	var yes bool
	c := &cobra.Command{
		Use: "mode WORKLOAD allow|learn|block|label", Short: "Set the mode of a workload", Args: cobra.ExactArgs(2),
		Long: "Set the mode of a workload, over the label of its containers; label takes that back.\n" +
			"It holds for running containers at once, without a restart: connections that stand\n" +
			"already and are refused now are cut, and how many is told.\n\n" +
			"Before block, what the traffic of the last 7 days would meet is shown, and you are\n" +
			"asked; --yes does without the question.",
		Example: "  egw mode shop/web learn\n  egw mode shop/web block\n  egw mode shop/web label --reason 'the label says block now'",
		ValidArgsFunction: func(c *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return []string{"allow", "learn", "block", "label"}, cobra.ShellCompDirectiveNoFileComp
			}
			return a.policyNames(c, args, text)
		},
		RunE: func(c *cobra.Command, args []string) error {
			mode, err := parseMode(args[1])
			if err != nil {
				return err
			}
			return a.deskOf(c.Context(), args[0], func(d *operator.Desk) error {
				return setMode(c.Context(), a, d, args[0], mode, f, yes)
			})
		},
	}
	f.add(c)
	f.addKeep(c)
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// parseMode reads a mode, or label for the one that the label gives.
func parseMode(word string) (policy.Mode, error) {
	if word == "label" {
		return policy.ModeUnknown, nil
	}
	m, err := policy.ParseMode(word)
	if err != nil {
		return m, usageErrorf("mode %q: want allow, learn, block or label", word)
	}
	return m, nil
}

func setMode(ctx context.Context, a *app, d *operator.Desk, workload string, mode policy.Mode, f changeFlags, yes bool) error {
	d.KeepEstablished(f.keep)
	draft, err := d.SetMode(workload, mode, f.reason)
	if errors.Is(err, operator.ErrUnchanged) {
		return a.unchanged(err)
	}
	if err != nil {
		return err
	}
	if mode == policy.ModeBlock {
		if err := a.foresee(ctx, d, workload); err != nil {
			return err
		}
		if !f.dryRun {
			question := fmt.Sprintf("Block %s?", printable(workload))
			if err := a.agree(yes, question); err != nil {
				return err
			}
		}
	}
	_, err = a.apply(ctx, d, f, func(*operator.Desk) (*operator.Draft, error) { return draft, nil })
	return err
}

// foresee shows what block would do to a workload. With json it goes to the
// standard error, as all that is there to be read by people.
func (a *app) foresee(ctx context.Context, d *operator.Desk, workload string) error {
	r, err := d.Replay(ctx, operator.Replay{
		Workload: workload, Since: a.now().Add(-lookBack),
		Candidate: policy.Candidate{Modes: map[string]policy.Mode{workload: policy.ModeBlock}},
	})
	if err != nil {
		return err
	}
	out := a.stdout
	if a.output == "json" {
		out = a.stderr
	}
	if r.Decisions == 0 {
		_, err := fmt.Fprintf(out, "No traffic of %s was recorded in the last 7 days: what block would stop is not known.\n", printable(workload))
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "If %s had been blocked for the last 7 days:\n", printable(workload))
	if err := replayText(&b, d.State(), r, summaryRows); err != nil {
		return err
	}
	_, err = io.WriteString(out, b.String())
	return err
}

// agree asks on a terminal; without one --yes must have been given.
func (a *app) agree(yes bool, question string) error {
	if yes {
		return nil
	}
	if !isTerminal(a.stdin) {
		return coded{errors.New("there is no terminal to ask at, nothing was changed: say --yes"), errRefused}
	}
	answer, err := newPrompt(a).ask(question + " [y/N] ")
	if err != nil {
		return err
	}
	if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
		return coded{errors.New("not confirmed, nothing was changed"), errRefused}
	}
	return nil
}
