package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/egresswarden/egresswarden/operator"
	"github.com/egresswarden/egresswarden/policy"
)

// replayOptions are the flags of egw replay.
type replayOptions struct {
	workload, policy, rules, mode, since string
	at                                   uint64
	check                                bool
}

const replayExample = `  egw replay --workload shop/web --mode block
  egw replay --policy shop/web --rules new.rules --since 30d
  egw replay --at 12                 what the rules of revision 12 would do`

// replayCommand judges recorded traffic under a candidate.
func replayCommand(a *app) *cobra.Command {
	var o replayOptions
	c := &cobra.Command{
		Use: "replay", Short: "Judge recorded traffic under other rules or modes", Example: replayExample, Args: cobra.NoArgs,
		Long: "Judge recorded traffic again, under the rules of now or of a revision, an allow-list\n" +
			"in place of a policy's own rules, or another mode, and show the destinations whose\n" +
			"verdict would differ. It changes nothing.",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.desk(c.Context(), func(d *operator.Desk) error { return replay(c, a, d, o) })
		},
	}
	flags := c.Flags()
	flags.StringVar(&o.workload, "workload", "", "only the traffic of this workload")
	flags.StringVar(&o.policy, "policy", "", "only the traffic of this policy")
	flags.StringVar(&o.rules, "rules", "", "allow-list in place of the own rules of --policy; - is the standard input")
	flags.Uint64Var(&o.at, "at", 0, "under the rules of this revision")
	flags.StringVar(&o.mode, "mode", "", "as if in this mode: learn or block")
	flags.StringVar(&o.since, "since", "7d", "how far back: a duration (10m, 2h, 7d) or a time (RFC 3339)")
	flags.BoolVar(&o.check, "check", false, "exit code 4 if anything would newly be denied")
	complete(c, "mode", "learn", "block")
	return c
}

func replay(c *cobra.Command, a *app, d *operator.Desk, o replayOptions) error {
	q, err := o.query(c, a, d)
	if err != nil {
		return err
	}
	r, err := d.Replay(c.Context(), q)
	if err != nil {
		return err
	}
	if a.output == "json" {
		err = a.json(viewReplay(q.Candidate.State, r))
	} else {
		var b strings.Builder
		if err = replayText(&b, q.Candidate.State, r, 0); err == nil {
			_, err = io.WriteString(a.stdout, b.String())
		}
	}
	if o.check && r.Denied > 0 && err == nil {
		err = coded{fmt.Errorf("%s would newly be denied", plural(r.Denied, "decision")), errRefused}
	}
	return err
}

func (o replayOptions) query(c *cobra.Command, a *app, d *operator.Desk) (operator.Replay, error) {
	q := operator.Replay{Workload: o.workload, Policy: o.policy}
	var err error
	if q.Since, err = parseSince(o.since, a.now()); err != nil {
		return q, err
	}
	if q.Candidate.State, err = stateAt(c, d, o.at); err != nil {
		return q, err
	}
	if o.mode != "" {
		if q.Candidate.Mode, err = policy.ParseMode(o.mode); err != nil || q.Candidate.Mode == policy.ModeAllow {
			return q, usageErrorf("mode %q: want learn or block", o.mode)
		}
	}
	if o.rules == "" {
		return q, nil
	}
	if o.policy == "" {
		return q, usageErrorf("--rules needs --policy, whose rules they replace")
	}
	rules, _, err := readRules(a, o.rules)
	q.Candidate.Rules = map[string][]policy.Rule{o.policy: rules}
	if o.policy == policy.Everyone {
		q.Policy = "" // its rules judge the traffic of all
	}
	return q, err
}
