package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/operator"
)

// desk reads the policy log for a command, and calls it.
func (a *app) desk(ctx context.Context, use func(*operator.Desk) error) error {
	return a.deskOf(ctx, "", use)
}

// deskOf also warns where no host knows the workload that the command is for.
func (a *app) deskOf(ctx context.Context, workload string, use func(*operator.Desk) error) error {
	actor := operator.LocalActor(a.env)
	if a.creds != "" {
		name, err := eventlog.CredentialName(a.creds)
		if err != nil {
			return err
		}
		actor = name
	}
	l, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	d, err := operator.Open(ctx, l, actor, a.now)
	if err != nil {
		return err
	}
	if workload != "" {
		a.warnUnknown(ctx, l, workload)
	}
	return use(d)
}

// changeFlags are those of every command that changes the policy log.
type changeFlags struct {
	reason string
	dryRun bool
	keep   bool
	yes    bool
}

func (f *changeFlags) add(c *cobra.Command) {
	c.Flags().StringVarP(&f.reason, "reason", "m", "", "why; it stays in the history")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "only show what would change; exit code 4 if anything would")
}

// addKeep is for the commands that may take a permission away.
func (f *changeFlags) addKeep(c *cobra.Command) {
	c.Flags().BoolVar(&f.keep, "keep-established", false,
		"leave the connections that stand already, until the policy's next change without this")
}

// addYes is for the commands that show what a change does, and ask.
func (f *changeFlags) addYes(c *cobra.Command) {
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
}

// change drafts, makes and tells a change.
func (a *app) change(ctx context.Context, f changeFlags, draft func(*operator.Desk) (*operator.Draft, error)) error {
	return a.changeOf(ctx, "", f, draft)
}

// changeOf also warns where no host knows the workload.
func (a *app) changeOf(ctx context.Context, workload string, f changeFlags, draft func(*operator.Desk) (*operator.Draft, error)) error {
	return a.deskOf(ctx, workload, func(d *operator.Desk) error {
		_, err := a.apply(ctx, d, f, draft)
		return err
	})
}

// apply makes and tells a change; the revision is 0 when nothing was changed.
func (a *app) apply(ctx context.Context, d *operator.Desk, f changeFlags, draft func(*operator.Desk) (*operator.Draft, error)) (operator.Done, error) {
	d.KeepEstablished(f.keep)
	c, err := draft(d)
	if errors.Is(err, operator.ErrUnchanged) {
		return operator.Done{}, a.unchanged(err)
	}
	if err != nil {
		return operator.Done{}, err
	}
	if f.dryRun {
		if err := a.told(c.Done, nil); err != nil {
			return operator.Done{}, err
		}
		return operator.Done{}, coded{errors.New("a dry run: nothing was changed"), errRefused}
	}
	done, err := d.Append(ctx, c)
	if done.Revision > 0 {
		err = errors.Join(a.told(done, a.landing(ctx, d, done)), err)
	}
	return done, err
}

// unchanged tells that a wish is fulfilled already.
func (a *app) unchanged(why error) error {
	if a.output == "json" {
		return a.json(doneView{Changes: []changeView{}, What: why.Error()})
	}
	_, err := fmt.Fprintf(a.stdout, "%s: nothing to change\n", printable(why.Error()))
	return err
}

// told says what was changed, at which revision, and what that did to hosts.
func (a *app) told(done operator.Done, on *landing) error {
	if a.output == "json" {
		return a.json(viewDone(done, on))
	}
	var b strings.Builder
	for _, c := range done.Changes {
		fmt.Fprintln(&b, changeLine(c))
	}
	if len(done.Changes) == 0 {
		fmt.Fprintln(&b, printable(done.What))
	}
	if done.Revision > 0 {
		fmt.Fprintf(&b, "policy %s is at revision %d\n", printable(done.Policy), done.Revision)
	}
	on.text(&b)
	_, err := io.WriteString(a.stdout, b.String())
	return err
}

// json prints one document.
func (a *app) json(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// jsonLine prints a document of many, on a line of its own.
func (a *app) jsonLine(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// columns prints a table; its cells cannot steer the terminal.
func columns(w io.Writer, header []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, dash(cell))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// moment prints a time; empty for none.
func moment(ns int64) string {
	if ns == 0 {
		return ""
	}
	return time.Unix(0, ns).Format(time.DateTime)
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

// plural is such as 1 rule, 2 rules.
func plural[N ~int | ~uint64](n N, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
