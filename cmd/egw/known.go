package main

import (
	"context"
	"fmt"

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
