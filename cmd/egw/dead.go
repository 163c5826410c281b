package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/egresswarden/egresswarden/eventlog"
)

const deadLong = `Show the events that a collector could not deliver, with the reason. They lie in
EGW_DEAD with their content, and where they came from; nothing behind them was
held up. docs/OPERATIONS.md says for each reason what to do.`

// deadCommand shows dead letters.
func deadCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: "dead", Short: "Show the events that could not be delivered", Long: deadLong, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(deadListCommand(a), deadShowCommand(a))
	return c
}

// deadView is a dead letter as json shows it.
type deadView struct {
	ID uint64 `json:"id"`
	eventlog.DeadLetter
}

func deadListCommand(a *app) *cobra.Command {
	var since, reason string
	var last int
	c := &cobra.Command{
		Use: "ls", Short: "List dead letters, oldest first", Args: cobra.NoArgs,
		Example: "  egw dead ls --since 1h\n  egw dead ls --reason too_old -n 0 -o json | jq -r .[].entry",
		RunE: func(c *cobra.Command, _ []string) error {
			q := eventlog.Query[eventlog.DeadEntry]{Last: last}
			if since != "" {
				var err error
				if q.Since, err = parseSince(since, a.now()); err != nil {
					return err
				}
			}
			if reason != "" {
				q.Match = func(d eventlog.DeadEntry) bool { return d.Letter.Reason == reason }
			}
			if last < 0 {
				return usageErrorf("last %d: want a number of letters, or 0 for all", last)
			}
			return a.listDead(c.Context(), q)
		},
	}
	flags := c.Flags()
	flags.IntVarP(&last, "last", "n", 20, "at most so many of the newest; 0: all")
	flags.StringVar(&since, "since", "", "parked not longer ago than a duration (10m, 2h, 7d), or since a time (RFC 3339)")
	flags.StringVar(&reason, "reason", "", "with this reason")
	return c
}

func (a *app) listDead(ctx context.Context, q eventlog.Query[eventlog.DeadEntry]) error {
	all, err := a.dead(ctx, q)
	if a.output == "json" {
		return errors.Join(a.json(all), err)
	}
	var rows [][]string
	for _, d := range all {
		rows = append(rows, []string{strconv.FormatUint(d.ID, 10), instant(d.Time), d.Consumer, d.Reason,
			d.Stream + ":" + strconv.FormatUint(d.Sequence, 10), deadWho(d), dash(d.EventID)})
	}
	return errors.Join(columns(a.stdout, []string{"ID", "PARKED", "CONSUMER", "REASON", "FROM", "WHOSE", "EVENT"}, rows), err)
}

// deadWho names whose event it is.
func deadWho(d deadView) string {
	var parts []string
	for _, name := range []string{"host", "workload", "verdict"} {
		if value := d.Labels[name]; value != "" {
			parts = append(parts, value)
		}
	}
	return dash(strings.Join(parts, " "))
}

// dead reads the letters that can be read; the error is of those that cannot.
func (a *app) dead(ctx context.Context, q eventlog.Query[eventlog.DeadEntry]) ([]deadView, error) {
	l, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	all := []deadView{}
	var broken error
	for d, err := range l.DeadLetters(ctx, q) {
		if errors.Is(err, eventlog.ErrMessage) {
			broken = err
			continue
		}
		if err != nil {
			return all, err
		}
		all = append(all, deadView{d.ID, d.Letter})
	}
	return all, broken
}

func deadShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a dead letter with its content", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil {
				return usageErrorf("id %q: want a number, as egw dead ls prints it", args[0])
			}
			d, err := a.deadLetter(c.Context(), id)
			if errors.Is(err, eventlog.ErrNotFound) {
				return coded{fmt.Errorf("dead letter %d: not there", id), errNotFound}
			}
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.json(d)
			}
			return a.showDead(d)
		},
	}
}

func (a *app) deadLetter(ctx context.Context, id uint64) (deadView, error) {
	l, err := a.connect(ctx)
	if err != nil {
		return deadView{}, err
	}
	defer l.Close()
	d, err := l.DeadLetter(ctx, id)
	return deadView{d.ID, d.Letter}, err
}

func (a *app) showDead(d deadView) error {
	content := d.Entry
	if content == "" {
		content = fmt.Sprintf("%d bytes that cannot be read: %q", len(d.Payload), d.Payload)
	}
	if d.Cut {
		content += "\n(cut: the whole lies in " + d.Stream + " alone)"
	}
	rows := [][]string{
		{"parked", d.Time.UTC().Format(time.RFC3339)}, {"by", d.Consumer}, {"reason", d.Reason}, {"said", dash(d.Error)},
		{"from", d.Stream + ":" + strconv.FormatUint(d.Sequence, 10)}, {"whose", deadWho(d)}, {"event", dash(d.EventID)},
	}
	if !d.EventTime.IsZero() {
		rows = append(rows, []string{"time", d.EventTime.UTC().Format(time.RFC3339Nano)})
	}
	if d.Redelivered {
		rows = append(rows, []string{"note", "an earlier attempt may have delivered it"})
	}
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%-8s %s\n", r[0], printable(r[1]))
	}
	_, err := fmt.Fprintf(a.stdout, "%s\n%s\n", b.String(), safeLines(content))
	return err
}
