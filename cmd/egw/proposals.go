package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/egresswarden/egresswarden/operator"
	"github.com/egresswarden/egresswarden/policy"
)

// proposalsCommand holds the commands about proposals.
func proposalsCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "proposals", Short: "Show and decide what the learner proposes", Args: cobra.NoArgs,
		Long: "Show and decide what the learner proposes. A proposal changes nothing until it is\n" +
			"approved; an ignored one never does. egw review goes through them one by one.",
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(proposalsListCommand(a), proposalsShowCommand(a), proposalsApproveCommand(a), proposalsRejectCommand(a))
	return c
}

func proposalsListCommand(a *app) *cobra.Command {
	var name, status string
	c := &cobra.Command{
		Use: "ls", Short: "List proposals", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s := policy.Status(status)
			switch s {
			case policy.StatusOpen, policy.StatusApproved, policy.StatusRejected, policy.StatusSuperseded:
			default:
				return usageErrorf("status %q: want open, approved, rejected or superseded", status)
			}
			return a.desk(c.Context(), func(d *operator.Desk) error { return a.listProposals(d.State(), name, s) })
		},
	}
	c.Flags().StringVar(&name, "policy", "", "of this policy")
	c.Flags().StringVar(&status, "status", "open", "open, approved, rejected or superseded")
	complete(c, "status", "open", "approved", "rejected", "superseded")
	return c
}

func (a *app) listProposals(state *policy.State, name string, status policy.Status) error {
	all := state.Proposals(name, status)
	if a.output == "json" {
		out := []proposalView{}
		for _, p := range all {
			out = append(out, viewProposal(p))
		}
		return a.json(out)
	}
	var rows [][]string
	for _, p := range all {
		s := sum(p.Body)
		rows = append(rows, []string{p.ID, p.Policy, p.Body.GetAction(), firstRule(p.Body), s.admits, s.seen,
			strconv.FormatUint(s.count, 10), strconv.FormatUint(s.denied, 10), moment(s.lastNs), strings.Join(s.processes, ","),
			strings.Join(s.flags, ",")})
	}
	return columns(a.stdout, []string{"ID", "POLICY", "ACTION", "RULES", "ADMITS", "SEEN", "COUNT", "DENIED", "LAST SEEN",
		"PROCESSES", "FLAGS"}, rows)
}

func proposalsShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a proposal with its evidence", Args: cobra.ExactArgs(1), ValidArgsFunction: a.proposalIDs,
		RunE: func(c *cobra.Command, args []string) error {
			return a.desk(c.Context(), func(d *operator.Desk) error {
				p, err := d.Proposal(args[0])
				if err != nil {
					return err
				}
				if a.output == "json" {
					return a.json(viewProposal(p.Proposal))
				}
				text := proposalText(p.Proposal)
				if p.Status == policy.StatusOpen {
					text += fmt.Sprintf("To approve what you see: egw proposals approve %s --at %d\n", p.ID, p.Seen)
				}
				_, err = io.WriteString(a.stdout, text)
				return err
			})
		},
	}
}

// decideFlags are those of approve and reject.
type decideFlags struct {
	changeFlags
	only []string
	at   uint64
}

func proposalsApproveCommand(a *app) *cobra.Command {
	var f decideFlags
	c := &cobra.Command{
		Use: "approve ID...", Short: "Approve proposals", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.proposalIDs,
		Long: "Show what proposals admit, and approve them. A proposal is known by its evidence: it\n" +
			"gets another ID when that changes. With --at, as egw proposals show prints it, the\n" +
			"approval is refused when the policy has changed since that revision.",
		Example: "  egw proposals approve 3f9c01d2ab --at 41 --reason 'the payment provider'\n" +
			"  egw proposals approve 3f9c01d2ab --only '192.0.2.7/32 tcp/443'",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 1 && len(f.only) > 0 {
				return usageErrorf("--only goes with one proposal")
			}
			at := c.Flags().Changed("at")
			return a.desk(c.Context(), func(d *operator.Desk) error { return a.approve(c.Context(), d, args, f, at) })
		},
	}
	f.add(c)
	f.addKeep(c)
	c.Flags().StringArrayVar(&f.only, "only", nil, "approve this rule of the proposal alone, by text or ID; can be repeated")
	c.Flags().Uint64Var(&f.at, "at", 0, "the revision at which you saw the proposal")
	return c
}

func (a *app) approve(ctx context.Context, d *operator.Desk, ids []string, f decideFlags, at bool) error {
	seen := d.State().Revision()
	if at {
		seen = f.at
	}
	var errs []error
	own := map[string]uint64{} // what this command itself did to a policy is no surprise
	for _, id := range ids {
		p, err := d.OpenProposal(id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.Seen = max(seen, own[p.Policy])
		if a.output != "json" {
			if _, err := io.WriteString(a.stdout, proposalText(p.Proposal)); err != nil {
				return err
			}
		}
		done, err := a.apply(ctx, d, f.changeFlags, func(d *operator.Desk) (*operator.Draft, error) { return d.Approve(p, f.only, f.reason) })
		own[p.Policy] = done.Revision
		if err != nil {
			errs = append(errs, fmt.Errorf("proposal %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

func proposalsRejectCommand(a *app) *cobra.Command {
	var f changeFlags
	c := &cobra.Command{
		Use: "reject ID...", Short: "Reject proposals", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.proposalIDs,
		Long: "Reject proposals. What was rejected is not proposed again, unless the evidence grows.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.desk(c.Context(), func(d *operator.Desk) error {
				var errs []error
				for _, id := range args {
					p, err := d.OpenProposal(id)
					if err == nil {
						_, err = a.apply(c.Context(), d, f, func(d *operator.Desk) (*operator.Draft, error) { return d.Reject(p, f.reason) })
					}
					errs = append(errs, err)
				}
				return errors.Join(errs...)
			})
		},
	}
	f.add(c)
	return c
}

// proposalIDs completes the IDs of open proposals.
func (a *app) proposalIDs(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	_ = a.desk(context.WithoutCancel(c.Context()), func(d *operator.Desk) error {
		for _, p := range d.State().Proposals("", policy.StatusOpen) {
			ids = append(ids, p.ID+"\t"+p.Policy+" "+firstRule(p.Body))
		}
		return nil
	})
	return ids, cobra.ShellCompDirectiveNoFileComp
}
