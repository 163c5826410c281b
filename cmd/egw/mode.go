package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/egresswarden/egresswarden/operator"
	"github.com/egresswarden/egresswarden/policy"
)

// modeCommand sets the mode of a workload.
func modeCommand(a *app) *cobra.Command {
	var f changeFlags
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
				return setMode(c.Context(), a, d, args[0], mode, f)
			})
		},
	}
	f.add(c)
	f.addKeep(c)
	f.addYes(c)
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

func setMode(ctx context.Context, a *app, d *operator.Desk, workload string, mode policy.Mode, f changeFlags) error {
	draft := func(d *operator.Desk) (*operator.Draft, error) { return d.SetMode(workload, mode, f.reason) }
	if mode != policy.ModeBlock {
		_, err := a.apply(ctx, d, f, func(d *operator.Desk) (*operator.Draft, error) {
			c, err := draft(d)
			if err != nil || mode != policy.ModeUnknown {
				return c, err
			}
			labels := a.labels(ctx, d.Log(), c.Changes)
			for _, change := range c.Changes { // the command does not say which mode that is
				fmt.Fprint(a.stderr, opens(change, labels))
			}
			return c, nil
		})
		return err
	}
	return a.applyForeseen(ctx, d, f, forecast{
		had: fmt.Sprintf("%s had been blocked", printable(workload)), does: "block would stop",
		question: fmt.Sprintf("Block %s?", printable(workload)),
	}, draft)
}
