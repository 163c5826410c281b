package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/egresswarden/egresswarden/operator"
	"github.com/egresswarden/egresswarden/policy"
)

// addFlags are those of allow and deny.
type addFlags struct {
	changeFlags
	ttl            string
	owner, comment string
}

func policyAddCommand(a *app, action policy.Action) *cobra.Command {
	var f addFlags
	verb := action.String()
	c := &cobra.Command{
		Use:   verb + " POLICY DESTINATION [PORTS]",
		Short: strings.ToUpper(verb[:1]) + verb[1:] + " a destination",
		Long: "Add a rule. DESTINATION is an address or a network (CIDR), PORTS a list such as\n" +
			"tcp/443,udp/8000-8100,icmp; without it every port and protocol is meant.",
		Example: "  egw policy " + verb + " shop/web 192.0.2.0/24 tcp/443 --ttl 7d --reason 'trial of the new provider'",
		Args:    cobra.RangeArgs(2, 3), ValidArgsFunction: a.policyNames,
		RunE: func(c *cobra.Command, args []string) error { return addRule(c, a, f, action, args) },
	}
	f.add(c)
	f.addKeep(c)
	c.Flags().StringVar(&f.ttl, "ttl", "", "the rule ends after a while: 90m, 2h, 7d")
	c.Flags().StringVar(&f.owner, "owner", "", "who answers for the rule")
	c.Flags().StringVar(&f.comment, "comment", "", "what the rule is for")
	return c
}

func addRule(c *cobra.Command, a *app, f addFlags, action policy.Action, args []string) error {
	text := strings.Join(args[1:], " ")
	r, err := policy.ParseRule(action.String() + " " + text)
	if err != nil {
		if _, plain := policy.ParseRule(text); plain != nil {
			err = plain // its columns are those of what was typed
		}
		return usageErrorf("rule %q: %w", text, err)
	}
	ttl, err := parseTTL(f.ttl)
	if err != nil {
		return err
	}
	r.Owner = f.owner
	if f.comment != "" {
		r.Comment = f.comment
	}
	return a.changeOf(c.Context(), args[0], f.changeFlags, func(d *operator.Desk) (*operator.Draft, error) {
		r.Expires = d.Until(ttl)
		for _, deny := range d.Shadows(args[0], r) {
			fmt.Fprintf(a.stderr, "egw: note: the rule %s %s wins where both match\n", deny.ID, deny)
		}
		return d.Add(args[0], r, f.reason)
	})
}

// parseTTL reads a duration, days allowed; empty is 0.
func parseTTL(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 14)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d <= 0 {
		return 0, usageErrorf("ttl %q: want a duration like 90m, 2h or 7d", text)
	}
	return d, nil
}

func policyRemoveCommand(a *app) *cobra.Command {
	var f changeFlags
	c := &cobra.Command{
		Use: "rm POLICY RULE...", Short: "Remove rules, named by ID or text", Args: cobra.MinimumNArgs(2),
		Example:           "  egw policy rm shop/web 4be1f0aa\n  egw policy rm shop/web '192.0.2.0/24 tcp/443'",
		ValidArgsFunction: a.policyNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.change(c.Context(), f, func(d *operator.Desk) (*operator.Draft, error) {
				return d.Remove(args[0], args[1:], f.reason)
			})
		},
	}
	f.add(c)
	f.addKeep(c)
	return c
}

// asked is what the help says of a change that is shown before it is made.
const asked = "What it changes and what the traffic of the last 7 days would meet is shown, and you\n" +
	"are asked; --yes does without the question."

func policyRollbackCommand(a *app) *cobra.Command {
	var f changeFlags
	c := &cobra.Command{
		Use: "rollback POLICY REVISION", Short: "Give a policy the rules and modes of a revision", Args: cobra.ExactArgs(2),
		Long: "Give a policy the operators' rules and modes that it had at a revision. Rules from\n" +
			"files stay as they are. This is a change like any other and can be rolled back too.\n\n" + asked,
		Example: "  egw policy rollback shop/web 12 --dry-run\n  egw policy rollback shop/web 12 --reason 'the trial is over'",
		RunE: func(c *cobra.Command, args []string) error {
			to, err := strconv.ParseUint(args[1], 10, 64)
			if err != nil {
				return usageErrorf("revision %q: want a number as in egw policy history", args[1])
			}
			what := forecast{
				had: fmt.Sprintf("policy %s had been as at revision %d", printable(args[0]), to), does: "the rollback would change",
				question: fmt.Sprintf("Roll policy %s back to revision %d?", printable(args[0]), to),
			}
			return a.desk(c.Context(), func(d *operator.Desk) error {
				return a.applyForeseen(c.Context(), d, f, what, func(d *operator.Desk) (*operator.Draft, error) {
					return d.RollBack(args[0], to, f.reason)
				})
			})
		},
		ValidArgsFunction: a.policyNames,
	}
	f.add(c)
	f.addKeep(c)
	f.addYes(c)
	return c
}

func policyImportCommand(a *app) *cobra.Command {
	var f addFlags
	c := &cobra.Command{
		Use: "import POLICY FILE", Short: "Replace a policy's rules by an allow-list", Args: cobra.ExactArgs(2),
		Long: "Replace all rules of a policy that are not from a file of the host by those of an\n" +
			"allow-list; - is the standard input, and needs --yes. A rule that is there already\n" +
			"keeps its origin, owner and end.\n\n" + asked,
		Example: "  egw policy export shop/web > web.rules\n  egw policy import shop/web web.rules --dry-run",
		RunE: func(c *cobra.Command, args []string) error {
			rules, sum, err := readRules(a, args[1])
			if err != nil {
				return err
			}
			for i := range rules {
				rules[i].Owner = f.owner
			}
			what := forecast{
				had: fmt.Sprintf("policy %s had had these rules", printable(args[0])), does: "the import would change",
				question: fmt.Sprintf("Replace the rules of policy %s?", printable(args[0])),
			}
			return a.desk(c.Context(), func(d *operator.Desk) error {
				return a.applyForeseen(c.Context(), d, f.changeFlags, what, func(d *operator.Desk) (*operator.Draft, error) {
					return d.Import(args[0], args[1], sum, rules, f.reason)
				})
			})
		},
	}
	f.add(c)
	f.addKeep(c)
	f.addYes(c)
	c.Flags().StringVar(&f.owner, "owner", "", "who answers for the rules")
	return c
}

// readRules reads an allow-list, and its SHA-256.
func readRules(a *app, file string) ([]policy.Rule, string, error) {
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(a.stdin)
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, "", fmt.Errorf("read rules: %w", err)
	}
	rules, err := policy.ParseFile(file, text)
	if err != nil {
		return nil, "", coded{err, errUsage}
	}
	sum := sha256.Sum256(text)
	return rules, hex.EncodeToString(sum[:]), nil
}

func policyExportCommand(a *app) *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use: "export POLICY", Short: "Write a policy as an allow-list", Args: cobra.ExactArgs(1),
		Long: "Write the rules of a policy that import replaces: those of operators and proposals\n" +
			"that have not ended. Owners and ends have no place in an allow-list.",
		ValidArgsFunction: a.policyNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.desk(c.Context(), func(d *operator.Desk) error { return exportPolicy(a, d.State(), args[0], all) })
		},
	}
	c.Flags().BoolVar(&all, "all", false, "also the rules from files")
	return c
}

func exportPolicy(a *app, state *policy.State, name string, all bool) error {
	if state.LastSequence(name) == 0 {
		return coded{fmt.Errorf("there is no policy %q in the log", name), errNotFound}
	}
	now, timed := a.now(), 0
	views := []ruleView{}
	var b strings.Builder
	seen := map[string]bool{}
	for _, r := range state.Policy(name).Rules {
		if r.ExpiredAt(now) || r.Origin == policy.OriginFile && !all || seen[r.String()] {
			continue
		}
		seen[r.String()] = true
		if !r.Expires.IsZero() {
			timed++
		}
		fmt.Fprintln(&b, r.Line())
		views = append(views, viewRule(name, r, now))
	}
	if a.output == "json" {
		return a.json(views)
	}
	if timed > 0 {
		fmt.Fprintf(a.stderr, "egw: note: %s written without the end that the policy gives\n", plural(timed, "rule"))
	}
	_, err := io.WriteString(a.stdout, b.String())
	return err
}
