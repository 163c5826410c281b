package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/egresswarden/egresswarden/operator"
	"github.com/egresswarden/egresswarden/policy"
)

type recordView struct {
	Revision uint64       `json:"revision"`
	Time     time.Time    `json:"time"`
	Policy   string       `json:"policy"`
	Actor    string       `json:"actor"`
	What     string       `json:"what"`
	Reason   string       `json:"reason,omitempty"`
	BasedOn  uint64       `json:"based_on,omitempty"`
	Refused  string       `json:"refused,omitempty"`
	Changes  []changeView `json:"changes"`
}

func policyHistoryCommand(a *app) *cobra.Command {
	var last int
	c := &cobra.Command{
		Use: "history [POLICY]", Short: "Tell who changed what, when and why", Args: cobra.MaximumNArgs(1),
		Long:              "Tell every event of a policy's log, or of all, oldest first, with what it changed.",
		ValidArgsFunction: a.policyNames,
		RunE: func(c *cobra.Command, args []string) error {
			if last < 0 {
				return usageErrorf("last %d: want 0 or more", last)
			}
			return a.desk(c.Context(), func(d *operator.Desk) error {
				records, err := d.History(strings.Join(args, ""))
				if err != nil {
					return err
				}
				if last > 0 && len(records) > last {
					records = records[len(records)-last:]
				}
				return a.history(records)
			})
		},
	}
	c.Flags().IntVarP(&last, "last", "n", 0, "only so many of the newest; 0: all")
	return c
}

func (a *app) history(records []policy.Record) error {
	if a.output == "json" {
		out := []recordView{}
		for _, r := range records {
			e := r.Event
			out = append(out, recordView{r.Entry.Revision, time.Unix(0, e.GetTimeNs()).UTC(), e.GetPolicy(), e.GetActor(), r.What,
				e.GetReason(), e.GetBasedOn(), r.Refused, viewChanges(r.Changes)})
		}
		return a.json(out)
	}
	var rows [][]string
	for _, r := range records {
		what := r.What
		if r.Refused != "" {
			what += " (no effect: " + r.Refused + ")"
		}
		rows = append(rows, []string{strconv.FormatUint(r.Entry.Revision, 10), moment(r.Event.GetTimeNs()), r.Event.GetPolicy(),
			r.Event.GetActor(), what, r.Event.GetReason()})
	}
	return columns(a.stdout, []string{"REVISION", "TIME", "POLICY", "ACTOR", "WHAT", "REASON"}, rows)
}

func policyDiffCommand(a *app) *cobra.Command {
	var from, to uint64
	c := &cobra.Command{
		Use: "diff [POLICY] --from REVISION [--to REVISION]", Short: "Compare two revisions", Args: cobra.MaximumNArgs(1),
		Long:              "Show which rules and modes differ between two revisions; without --to the newest is meant.",
		ValidArgsFunction: a.policyNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.desk(c.Context(), func(d *operator.Desk) error {
				if !c.Flags().Changed("to") {
					to = d.State().Revision()
				}
				return diffPolicies(a, d, strings.Join(args, ""), from, to)
			})
		},
	}
	c.Flags().Uint64Var(&from, "from", 0, "the one revision")
	c.Flags().Uint64Var(&to, "to", 0, "the other revision")
	if err := c.MarkFlagRequired("from"); err != nil {
		panic(err) // no such flag: a mistake in this program
	}
	return c
}

func diffPolicies(a *app, d *operator.Desk, name string, from, to uint64) error {
	before, err := d.At(from)
	if err != nil {
		return err
	}
	after, err := d.At(to)
	if err != nil {
		return err
	}
	if name != "" && before.LastSequence(name)+after.LastSequence(name) == 0 {
		return coded{fmt.Errorf("there is no policy %q at either revision", name), errNotFound}
	}
	changes := []policy.Change{}
	for _, c := range policy.Diff(before, after) {
		if name == "" || c.Policy == name || c.Workload == name {
			changes = append(changes, c)
		}
	}
	if a.output == "json" {
		return a.json(struct {
			From    uint64       `json:"from"`
			To      uint64       `json:"to"`
			Changes []changeView `json:"changes"`
		}{from, to, viewChanges(changes)})
	}
	last := ""
	for _, c := range changes {
		if c.Policy != last && c.Policy != "" {
			last = c.Policy
			fmt.Fprintf(a.stdout, "policy %s, revision %d to %d\n", printable(last), from, to)
		}
		fmt.Fprintln(a.stdout, changeLine(c))
	}
	return nil
}
