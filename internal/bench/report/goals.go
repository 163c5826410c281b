package main

import (
	"fmt"
	"strconv"
)

// goal is a number to reach.
type goal struct {
	what      string
	benchmark string
	unit      string
	atLeast   bool
	want      float64
	// than names another unit of the benchmark that is the goal instead.
	than string
	show string // of the unit, for people
}

var goals = []goal{
	{what: "loopback TCP connect, 100,000 prefixes, known destinations, gate on ÷ off", benchmark: "Cost/connect/known/100000", unit: "gate", want: 1.02},
	{what: "the same, new destinations", benchmark: "Cost/connect/new/100000", unit: "gate", want: 1.06},
	{what: "known destinations, below the nftables set", benchmark: "Cost/connect/known/100000", unit: "gate", than: "nftables"},
	{what: "new destinations, below the nftables set", benchmark: "Cost/connect/new/100000", unit: "gate", than: "nftables"},
	{what: "program time of a decision, 100,000 prefixes, known destination", benchmark: "Decision/known", unit: "ns/decision", want: 250, show: "ns"},
	{what: "the same, new destination", benchmark: "Decision/new", unit: "ns/decision", want: 1800, show: "ns"},
	{what: "small send on an established connection, gate on ÷ off", benchmark: "Cost/send/100000", unit: "gate", want: 1.07},
	{what: "16 KiB sends on it, gate on ÷ off", benchmark: "Cost/bulk/100000", unit: "gate", want: 1.03},
	{what: "flood of refused sends, each accounted for", benchmark: "Flood/repeated", unit: "decisions/s", atLeast: true, want: 1e6, show: "/s"},
	{what: "the same, each to another destination", benchmark: "Flood/distinct", unit: "decisions/s", atLeast: true, want: 5e5, show: "/s"},
	{what: "ring → durable JetStream, packed, per core", benchmark: "RingToJetStream/runs-of-1024", unit: "events/core-s", atLeast: true, want: 1e6, show: "/s"},
	{what: "policy change → live in the kernel, 1,000 rules, p99", benchmark: "PolicyLive/1000", unit: "p99-ms", want: 50, show: "ms"},
	{what: "the same, 10,000 rules", benchmark: "PolicyLive/10000", unit: "p99-ms", want: 500, show: "ms"},
	{what: "start, 1,000 containers under one policy of 1,000 rules", benchmark: "Start/shared", unit: "ns/op", want: 2e9, show: "s"},
	{what: "its resident memory", benchmark: "Start/shared", unit: "MiB-resident", want: 95.4, show: "MiB"},
	{what: "start, 1,000 containers with 1,000 rules each of its own", benchmark: "Start/own", unit: "ns/op", want: 2e9, show: "s"},
	{what: "its resident memory", benchmark: "Start/own", unit: "MiB-resident", want: 95.4, show: "MiB"},
	{what: "replay of recorded events", benchmark: "Replay", unit: "events/s", atLeast: true, want: 2e6, show: "/s"},
}

// row is the goal's line of the table. What was not measured is not reached.
func (g goal) row(all results) string {
	sign, want := "≤", g.want
	if g.atLeast {
		sign = "≥"
	}
	aim := sign + " " + g.number(want)
	if g.than != "" {
		want = all[g.benchmark][g.than]
		aim = "< " + g.number(want)
	}
	v, ok := all[g.benchmark][g.unit]
	switch {
	case !ok:
		return fmt.Sprintf("| %s | %s | not measured | **missing** |", g.what, aim)
	case g.met(v, want):
		return fmt.Sprintf("| %s | %s | %s | reached |", g.what, aim, g.number(v))
	}
	return fmt.Sprintf("| %s | %s | %s | **missed** |", g.what, aim, g.number(v))
}

func (g goal) met(v, want float64) bool {
	if g.atLeast {
		return v >= want
	}
	if g.than != "" {
		return v < want
	}
	return v <= want
}

func (g goal) number(v float64) string {
	switch g.show {
	case "":
		return fmt.Sprintf("%.3f", v)
	case "/s":
		return thousands(v) + "/s"
	case "s":
		return fmt.Sprintf("%.2f s", v/1e9)
	case "ms":
		return fmt.Sprintf("%.1f ms", v)
	}
	return fmt.Sprintf("%.0f %s", v, g.show)
}

// thousands groups the digits.
func thousands(v float64) string {
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
