package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/operator"
	"github.com/egresswarden/egresswarden/policy"
)

const reviewHelp = `y - approve this proposal
n - reject it: it is not proposed again unless the evidence grows
s - skip it: it stays open
e - add another rule in its place, which you type; the learner then looks again
q - quit; the rest stays open
? - this help
`

// reviewCommand goes through open proposals one by one.
func reviewCommand(a *app) *cobra.Command {
	var name, reason string
	c := &cobra.Command{
		Use: "review", Short: "Decide open proposals one by one", Args: cobra.NoArgs,
		Long: "Go through the open proposals one by one, in the manner of git add -p:\n\n" + reviewHelp + "\n" +
			"A proposal whose policy changed while you were reading is shown again.",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.desk(c.Context(), func(d *operator.Desk) error {
				r := &review{app: a, desk: d, prompt: newPrompt(a), reason: reason, text: a.stdout}
				if a.output == "json" {
					r.text = a.stderr
				}
				return r.run(c.Context(), name)
			})
		},
	}
	c.Flags().StringVar(&name, "policy", "", "of this policy")
	c.Flags().StringVarP(&reason, "reason", "m", "", "why; it stays in the history of all that is decided")
	return c
}

type review struct {
	*app
	desk   *operator.Desk
	prompt *prompt
	reason string
	text   io.Writer

	// shown counts the proposals that were gone through.
	approved, rejected, added, skipped, shown int
}

// errQuit ends a review early.
var errQuit = errors.New("quit")

func (r *review) run(ctx context.Context, name string) error {
	open := r.desk.State().Proposals(name, policy.StatusOpen)
	if len(open) == 0 {
		fmt.Fprintln(r.text, "There is no open proposal.")
		return nil
	}
	handled := map[string]bool{}
	for i, p := range open {
		err := r.one(ctx, p.ID, fmt.Sprintf("(%d/%d)", i+1, len(open)), handled)
		if errors.Is(err, errQuit) {
			break
		}
		if err != nil {
			return err
		}
		r.shown++
	}
	_, err := fmt.Fprintf(r.text, "%s; the policy log is at revision %d.\n", r.done(len(open)), r.desk.State().Revision())
	return err
}

// done says what became of so many proposals.
func (r *review) done(of int) string {
	text := ""
	say := func(n int, what string) {
		if n > 0 {
			text += fmt.Sprintf(", %d %s", n, what)
		}
	}
	say(r.approved, "approved")
	say(r.rejected, "rejected")
	say(r.added, "replaced by your rule")
	say(r.skipped, "skipped")
	say(r.shown-r.approved-r.rejected-r.added-r.skipped, "no longer open")
	if text == "" {
		text = ", Nothing was decided"
	}
	say(of-r.shown, "left open")
	return strings.TrimPrefix(text, ", ")
}

// one shows a proposal, or the one that took its place, until it is decided.
func (r *review) one(ctx context.Context, id, place string, handled map[string]bool) error {
	if err := r.desk.Refresh(ctx); err != nil {
		return err
	}
	for {
		p, ok := r.desk.Successor(id)
		if !ok || handled[p.ID] {
			return nil
		}
		fmt.Fprint(r.text, proposalText(p.Proposal))
		err := r.decide(ctx, p, place)
		if errors.Is(err, errAgain) {
			continue
		}
		handled[p.ID] = true
		return err
	}
}

// errAgain has a proposal shown again.
var errAgain = errors.New("again")

// decide asks until there is an answer.
func (r *review) decide(ctx context.Context, p operator.Shown, place string) error {
	for {
		answer, err := r.prompt.ask(place + " Approve this proposal [y,n,s,e,q,?]? ")
		if errors.Is(err, io.EOF) {
			fmt.Fprintln(r.stderr)
			return errQuit
		}
		if err != nil {
			return err
		}
		switch answer {
		case "y":
			return r.change(ctx, &r.approved, func() (*operator.Draft, error) { return r.desk.Approve(p, nil, r.reason) })
		case "n":
			return r.change(ctx, &r.rejected, func() (*operator.Draft, error) { return r.desk.Reject(p, r.reason) })
		case "s":
			r.skipped++
			return nil
		case "e":
			if err := r.instead(ctx, p); !errors.Is(err, errAsk) {
				return err
			}
		case "q":
			return errQuit
		default:
			fmt.Fprint(r.stderr, reviewHelp)
		}
	}
}

// errAsk has the question asked again.
var errAsk = errors.New("ask again")

// instead adds a rule that the person types.
func (r *review) instead(ctx context.Context, p operator.Shown) error {
	text, err := r.prompt.ask("Rule to add to policy " + printable(p.Policy) + " in its place (empty: none): ")
	if errors.Is(err, io.EOF) {
		return errQuit
	}
	if err != nil {
		return err
	}
	if text == "" {
		return errAsk
	}
	rule, err := policy.ParseRule(text)
	if err != nil {
		fmt.Fprintln(r.stderr, printable(err.Error()))
		return errAsk
	}
	reason := strings.TrimSpace(r.reason + " (in place of proposal " + p.ID + ")")
	return r.change(ctx, &r.added, func() (*operator.Draft, error) { return r.desk.Add(p.Policy, rule, reason) })
}

// change appends, and counts it. What others changed meanwhile is told, and
// the proposal shown again.
func (r *review) change(ctx context.Context, count *int, draft func() (*operator.Draft, error)) error {
	c, err := draft()
	var done operator.Done
	if err == nil {
		done, err = r.desk.Append(ctx, c)
	}
	if done.Revision > 0 {
		*count++
		on := r.landing(ctx, r.desk, done)
		if r.output == "json" {
			return errors.Join(r.jsonLine(viewDone(done, on)), err)
		}
		return errors.Join(r.told(done, on), err)
	}
	if errors.Is(err, eventlog.ErrStale) || errors.Is(err, operator.ErrRefused) || errors.Is(err, operator.ErrUnchanged) ||
		errors.Is(err, operator.ErrNotFound) {
		fmt.Fprintln(r.stderr, "Not done:", safeLines(err.Error()))
		if err := r.desk.Refresh(ctx); err != nil {
			return err
		}
		return errAgain
	}
	return err
}
