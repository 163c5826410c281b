package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/egresswarden/egresswarden/policy"
)

// workloadRow is one container of a workload on a host.
type workloadRow struct {
	Workload    string      `json:"workload"`
	Host        string      `json:"host"`
	Mode        policy.Mode `json:"mode"`
	ModeFrom    string      `json:"mode_from"`
	Container   string      `json:"container"`
	ContainerID string      `json:"container_id"`
	Image       string      `json:"image"`
	Running     bool        `json:"running"`
	Network     string      `json:"network,omitempty"`
	// Raw: the label egress.raw=allow.
	Raw bool `json:"raw,omitempty"`
	// Open is what the gate does not cover.
	Open []string `json:"open,omitempty"`
}

// workloadsCommand lists what policies can be attached to.
func workloadsCommand(a *app) *cobra.Command {
	var host string
	c := &cobra.Command{
		Use: "workloads", Short: "List the workloads and their containers",
		Long: "List the workloads and their containers. A workload is named by the label egress.policy,\n" +
			"else by compose's project and service, else by the container's name.",
		Example: "  egw workloads\n  egw workloads -o json | jq -r '.[].workload'",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return listWorkloads(c.Context(), a, host) },
	}
	c.Flags().StringVar(&host, "host", "", "of this host alone")
	return c
}

func listWorkloads(ctx context.Context, a *app, host string) error {
	all, err := askStatuses(ctx, a, host)
	if err != nil {
		return err
	}
	rows := workloadRows(all)
	if a.output == "json" {
		err = printJSON(a.stdout, rows)
	} else {
		err = printWorkloadRows(a.stdout, rows)
	}
	return errors.Join(err, unhealthy(all))
}

func workloadRows(all []hostStatus) []workloadRow {
	rows := []workloadRow{}
	for _, h := range all {
		if h.Status == nil {
			continue
		}
		for _, w := range h.Status.Workloads {
			for _, c := range w.Containers {
				rows = append(rows, workloadRow{
					Workload: w.Workload, Host: h.Host, Mode: w.Mode, ModeFrom: w.ModeFrom,
					Container: c.Name, ContainerID: c.ID, Image: c.Image, Running: c.Running,
					Network: c.Network, Raw: c.Raw, Open: c.Open,
				})
			}
		}
	}
	return rows
}

func printWorkloadRows(w io.Writer, rows []workloadRow) error {
	out := bufio.NewWriter(w)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WORKLOAD\tHOST\tMODE\tFROM\tCONTAINER\tIMAGE\tNETWORK\tSTATE")
	for _, r := range rows {
		state := "stopped"
		if r.Running {
			state = "running"
		}
		if r.Raw {
			state += ", raw sockets kept"
		}
		if r.Running && r.Mode != policy.ModeAllow && len(r.Open) > 0 {
			state += ", degraded"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", printable(r.Workload), printable(r.Host), r.Mode, dash(r.ModeFrom),
			dash(r.Container), dash(r.Image), dash(r.Network), state)
	}
	return errors.Join(t.Flush(), out.Flush())
}
