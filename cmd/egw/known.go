package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/policy"
)

// warnUnknown tells on the standard error that no host which answers at once
// knows a workload: the name may be misspelt, or its containers are yet to be.
func (a *app) warnUnknown(ctx context.Context, l *eventlog.Log, workload string) {
	if workload == policy.Everyone {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, a.knownWait)
	defer cancel()
	names, err := hosts(ctx, l, "")
	if err != nil {
		return
	}
	answered := 0
	for _, h := range statuses(ctx, l, names) {
		if h.Status == nil {
			continue
		}
		answered++
		for _, w := range h.Status.Workloads {
			if w.Workload == workload {
				return
			}
		}
	}
	if answered > 0 {
		fmt.Fprintf(a.stderr, "egw: warning: no workload %s on the %s that answered\n", printable(workload), plural(answered, "host"))
	}
}

// labels are the modes that the labels of workloads say whose override a change
// takes back, of several the one that lets through most; what no host tells at
// once is not among them.
func (a *app) labels(ctx context.Context, l *eventlog.Log, changes []policy.Change) map[string]policy.Mode {
	found := map[string]policy.Mode{}
	back := func(c policy.Change) bool { return c.Op == "mode" && c.To == policy.ModeUnknown }
	if !slices.ContainsFunc(changes, back) {
		return found
	}
	ctx, cancel := context.WithTimeout(ctx, a.knownWait)
	defer cancel()
	names, err := hosts(ctx, l, "")
	if err != nil {
		return found
	}
	for _, h := range statuses(ctx, l, names) {
		if h.Status == nil {
			continue
		}
		for _, w := range h.Status.Workloads {
			if !slices.ContainsFunc(changes, func(c policy.Change) bool { return back(c) && c.Workload == w.Workload }) {
				continue
			}
			for _, c := range w.Containers {
				if before, ok := found[w.Workload]; !ok || c.Label < before {
					found[w.Workload] = c.Label
				}
			}
		}
	}
	return found
}
