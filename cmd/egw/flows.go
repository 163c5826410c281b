package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/schemas"
)

const flowsExample = `  egw flows                          the newest 20
  egw flows -f --verdict deny        denials, as they happen
  egw flows --since 1h --workload shop/web
  egw flows --to 169.254.0.0/16 -o json | jq .workload
  egw flows -f --verdict deny,would_deny -o ocsf`

// flowsCommand shows recorded flows.
func flowsCommand(a *app) *cobra.Command {
	var o flowsOptions
	c := &cobra.Command{
		Use: "flows", Short: "Show what containers connected to", Example: flowsExample,
		Long: "Show recorded connects and sends of learning and blocked containers, oldest first.\n" +
			"All filters must match; --last counts what has matched. The table joins repeats of\n" +
			"the same flow and adds their counts, unless it follows; json has each event as recorded,\n" +
			"ocsf and ecs have it in the words of a SIEM: OCSF Network Activity, Elastic Common Schema.",
		Args: cobra.NoArgs, Annotations: map[string]string{moreOutputs: "ocsf ecs"},
		RunE: func(c *cobra.Command, _ []string) error {
			o.lastGiven = c.Flags().Changed("last")
			return showFlows(c.Context(), a, o)
		},
	}
	flags := c.Flags()
	flags.BoolVarP(&o.follow, "follow", "f", false, "go on with new ones")
	flags.IntVarP(&o.last, "last", "n", 20, "at most so many of the newest recorded; 0: all (the default with --since)")
	flags.StringVar(&o.since, "since", "", "not older than a duration (10m, 2h, 7d) or a time (RFC 3339)")
	flags.StringVar(&o.host, "host", "", "of this host")
	flags.StringVar(&o.container, "container", "", "of the container with this name, or an id that begins so")
	flags.StringVar(&o.workload, "workload", "", "of this workload")
	flags.StringSliceVar(&o.verdicts, "verdict", nil, "allow, deny or would_deny; several by comma")
	flags.StringVar(&o.to, "to", "", "to this address or network (CIDR)")
	flags.IntVar(&o.port, "port", -1, "to this port")
	complete(c, "verdict", "allow", "deny", "would_deny")
	return c
}

func showFlows(ctx context.Context, a *app, o flowsOptions) error {
	query, err := o.query(a.now())
	if err != nil {
		return err
	}
	l, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	out := bufio.NewWriter(a.stdout)
	p := newFlowPrinter(a.output, o.follow, out)
	var broken error
	for f, err := range l.Flows(ctx, query) {
		if errors.Is(err, eventlog.ErrMessage) {
			fmt.Fprintln(a.stderr, "egw:", err)
			broken = errors.New("some of the recorded flows cannot be read")
			continue
		}
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		p.print(f)
		if o.follow {
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
	p.end()
	return errors.Join(broken, out.Flush())
}

// flowPrinter prints flows one way.
type flowPrinter interface {
	print(*schemas.Flow)
	end()
}

func newFlowPrinter(output string, follow bool, out *bufio.Writer) flowPrinter {
	switch {
	case output == "json":
		return &jsonFlows{out: out, line: schemas.AppendLine}
	case output == "ocsf":
		return &jsonFlows{out: out, line: schemas.AppendOCSF}
	case output == "ecs":
		return &jsonFlows{out: out, line: schemas.AppendECS}
	case follow:
		return &flowLines{out: out}
	}
	return &flowTable{out: out, rows: map[flowKey]*flowRow{}}
}

// jsonFlows prints an object a line.
type jsonFlows struct {
	out    *bufio.Writer
	line   func([]byte, *schemas.Flow) []byte
	buffer []byte
}

func (p *jsonFlows) print(f *schemas.Flow) {
	p.buffer = append(p.line(p.buffer[:0], f), '\n')
	_, _ = p.out.Write(p.buffer) // Flush tells
}

func (p *jsonFlows) end() {}
