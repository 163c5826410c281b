package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/egresswarden/egresswarden/operator"
	"github.com/egresswarden/egresswarden/policy"
)

// lookBack is how far a replay looks back before a change is made.
const lookBack = 7 * 24 * time.Hour

// forecast is what a change is called before it is made.
type forecast struct {
	// had is what the policy would have been like, does what is not known where
	// nothing was recorded.
	had, does string
	question  string
}

// applyForeseen is apply for a change whose effect the command line does not
// tell: what it changes and what recorded traffic would meet is shown, and
// asked.
func (a *app) applyForeseen(ctx context.Context, d *operator.Desk, f changeFlags, what forecast,
	draft func(*operator.Desk) (*operator.Draft, error)) error {
	d.KeepEstablished(f.keep)
	c, err := draft(d)
	if errors.Is(err, operator.ErrUnchanged) {
		return a.unchanged(err)
	}
	if err != nil {
		return err
	}
	// A dry run, and what was not asked about, tells the changes in the end.
	if err := a.foresee(ctx, d, c, what, !f.dryRun && !f.yes); err != nil {
		return err
	}
	if !f.dryRun {
		if err := a.agree(f.yes, what.question); err != nil {
			return err
		}
	}
	_, err = a.apply(ctx, d, f, func(*operator.Desk) (*operator.Draft, error) { return c, nil })
	return err
}

// foresee shows what a draft would do. With json it goes to the standard error,
// as all that is there to be read by people.
func (a *app) foresee(ctx context.Context, d *operator.Desk, c *operator.Draft, what forecast, changes bool) error {
	labels := a.labels(ctx, d.Log(), c.Changes)
	r, err := d.Foresee(ctx, c, a.now().Add(-lookBack), labels)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, change := range c.Changes {
		if changes {
			fmt.Fprintln(&b, changeLine(change))
		}
		fmt.Fprint(&b, opens(change, labels))
	}
	if r.Decisions == 0 {
		fmt.Fprintf(&b, "No traffic of %s was recorded in the last 7 days: what %s is not known.\n", policyWords(c.Policy), what.does)
	} else {
		fmt.Fprintf(&b, "If %s for the last 7 days:\n", what.had)
		if err := replayText(&b, d.State(), r, summaryRows); err != nil {
			return err
		}
	}
	out := a.stdout
	if a.output == "json" {
		out = a.stderr
	}
	_, err = io.WriteString(out, b.String())
	return err
}

func policyWords(name string) string {
	if name == policy.Everyone {
		return "any workload"
	}
	return printable(name)
}

// opens says of a change of mode that it ends the enforcement.
func opens(c policy.Change, labels map[string]policy.Mode) string {
	to := modeWords(c.To, labels[c.Workload])
	if c.Op != "mode" || c.From != policy.ModeBlock || to == policy.ModeBlock.String() {
		return ""
	}
	return fmt.Sprintf("NOT BLOCKED any more: %s, its mode would be %s.\n", printable(c.Workload), to)
}

// modeWords is a mode, or what is known of the label's.
func modeWords(mode, label policy.Mode) string {
	switch {
	case mode != policy.ModeUnknown:
		return mode.String()
	case label != policy.ModeUnknown:
		return label.String()
	}
	return "its label's, which no host tells"
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
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
		return coded{errors.New("not confirmed, nothing was changed"), errRefused}
	}
	return nil
}
