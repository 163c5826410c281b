package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/egresswarden/egresswarden/operator"
	"github.com/egresswarden/egresswarden/policy"
)

const policyLong = `Show and change the rules of policies.

A policy belongs to the workload of the same name; the policy * applies to every
workload besides its own. Deny rules win over allow rules. Every change is one
event in an append-only log, and its revision is the place in it.

Rules from files are changed in their files alone.`

const policyExample = `  egw policy allow shop/web 192.0.2.0/24 tcp/443 --reason "the payment provider"
  egw policy allow shop/web 198.51.100.7 --ttl 2h
  egw policy deny '*' 169.254.169.254
  egw policy history shop/web
  egw policy rollback shop/web 12`

// policyCommand holds the commands about rules.
func policyCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "policy", Short: "Show and change rules", Long: policyLong, Example: policyExample,
		Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(policyListCommand(a), policyShowCommand(a), policyAddCommand(a, policy.ActionAllow),
		policyAddCommand(a, policy.ActionDeny), policyRemoveCommand(a), policyHistoryCommand(a), policyDiffCommand(a),
		policyRollbackCommand(a), policyImportCommand(a), policyExportCommand(a))
	return c
}

type policyView struct {
	Policy    string `json:"policy"`
	Rules     int    `json:"rules"`
	Mode      string `json:"mode"`
	Proposals int    `json:"proposals"`
	Revision  uint64 `json:"revision"`
	File      string `json:"file,omitempty"`
}

func policyListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List policies", Args: cobra.NoArgs,
		Long: "List policies with their rules, the mode that an operator set for the workload of\n" +
			"that name (label: none), open proposals, and the revision that last changed rules or mode.",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.desk(c.Context(), func(d *operator.Desk) error { return listPolicies(a, d) })
		},
	}
}

func listPolicies(a *app, d *operator.Desk) error {
	open := map[string]int{}
	for _, p := range d.State().Proposals("", policy.StatusOpen) {
		open[p.Policy]++
	}
	all := []policyView{}
	for _, name := range d.State().Policies() {
		if name == "" {
			continue
		}
		p := d.State().Policy(name)
		mode, _ := d.State().Mode(name)
		all = append(all, policyView{name, len(p.Rules), modeName(mode.Mode), open[name],
			d.State().LastEffect(name).Revision, d.State().Imported(name).File})
	}
	if a.output == "json" {
		return a.json(all)
	}
	var rows [][]string
	for _, p := range all {
		rows = append(rows, []string{p.Policy, strconv.Itoa(p.Rules), p.Mode, strconv.Itoa(p.Proposals),
			strconv.FormatUint(p.Revision, 10), p.File})
	}
	return columns(a.stdout, []string{"POLICY", "RULES", "MODE", "PROPOSALS", "REVISION", "FILE"}, rows)
}

func policyShowCommand(a *app) *cobra.Command {
	var at uint64
	c := &cobra.Command{
		Use: "show POLICY", Short: "Show the rules of a policy", Args: cobra.ExactArgs(1),
		Long: "Show a policy's own rules with where they are from, and those of the policy * that\n" +
			"apply besides.",
		ValidArgsFunction: a.policyNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.desk(c.Context(), func(d *operator.Desk) error {
				state, err := stateAt(c, d, at)
				if err != nil {
					return err
				}
				return showPolicy(a, state, args[0])
			})
		},
	}
	c.Flags().Uint64Var(&at, "at", 0, "as it was at this revision")
	return c
}

// stateAt is the state at the revision of the flag --at, or now.
func stateAt(c *cobra.Command, d *operator.Desk, at uint64) (*policy.State, error) {
	if !c.Flags().Changed("at") {
		return d.State(), nil
	}
	return d.At(at)
}

func showPolicy(a *app, state *policy.State, name string) error {
	if state.LastSequence(name) == 0 {
		return coded{fmt.Errorf("there is no policy %q at revision %d", name, state.Revision()), errNotFound}
	}
	own, all := state.Policy(name), state.Policy(policy.Everyone)
	if name == policy.Everyone {
		all.Rules = nil
	}
	mode, _ := state.Mode(name)
	if a.output == "json" {
		out := struct {
			Policy      string        `json:"policy"`
			Mode        string        `json:"mode"`
			Revision    uint64        `json:"revision"`
			LogRevision uint64        `json:"log_revision"`
			Imported    policy.Import `json:"imported"`
			Rules       []ruleView    `json:"rules"`
		}{name, modeName(mode.Mode), state.LastEffect(name).Revision, state.Revision(), state.Imported(name), []ruleView{}}
		for _, p := range []policy.Policy{own, all} {
			for _, r := range p.Rules {
				out.Rules = append(out.Rules, viewRule(p.Name, r, a.now()))
			}
		}
		return a.json(out)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "policy %s, mode %s, %s, %s\n", printable(name), modeName(mode.Mode), plural(len(own.Rules), "rule"),
		changedAt(state, name))
	if err := ruleTable(a, &b, own.Rules); err != nil {
		return err
	}
	if len(all.Rules) > 0 {
		fmt.Fprintf(&b, "and of policy *, %s\n", changedAt(state, policy.Everyone))
		if err := ruleTable(a, &b, all.Rules); err != nil {
			return err
		}
	}
	_, err := fmt.Fprint(a.stdout, b.String())
	return err
}

func changedAt(state *policy.State, name string) string {
	if last := state.LastEffect(name).Revision; last != 0 {
		return fmt.Sprintf("changed at revision %d", last)
	}
	return "never changed" // there are proposals alone
}

func ruleTable(a *app, b *strings.Builder, rules []policy.Rule) error {
	if len(rules) == 0 {
		return nil
	}
	var rows [][]string
	for _, r := range rules {
		rows = append(rows, ruleRow(r, a.now()))
	}
	return columns(b, ruleHeader, rows)
}

// policyNames completes the names of policies.
func (a *app) policyNames(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	_ = a.desk(context.WithoutCancel(c.Context()), func(d *operator.Desk) error {
		names = d.State().Policies()
		return nil
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}
