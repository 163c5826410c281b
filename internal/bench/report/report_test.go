package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLinesOfBenchmarksAreRead(t *testing.T) {
	in := "goos: linux\nBenchmarkFlood/distinct-2 \t 100\t 12.5 ns/op\t 600000 decisions/s\nBenchmarkCost/send/10\t24\t3000 ns/op\t1.001 gate\nPASS\n"
	got, err := parse(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	want := results{
		"Flood/distinct": {"ns/op": 12.5, "decisions/s": 600000},
		"Cost/send/10":   {"ns/op": 3000, "gate": 1.001},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := parse(strings.NewReader("BenchmarkX 1 many ns/op\n")); err == nil {
		t.Error("a number that is none is no error")
	}
}

func TestGoalsAreReachedMissedOrNotMeasured(t *testing.T) {
	all := results{"A": {"x": 1.05, "other": 1.1}, "B": {"n": 999_999}}
	for _, c := range []struct {
		goal goal
		want string
	}{
		{goal{what: "w", benchmark: "A", unit: "x", want: 1.05}, "| w | ≤ 1.050 | 1.050 | reached |"},
		{goal{what: "w", benchmark: "A", unit: "x", want: 1.04}, "| w | ≤ 1.040 | 1.050 | **missed** |"},
		{goal{what: "w", benchmark: "A", unit: "x", than: "other"}, "| w | < 1.100 | 1.050 | reached |"},
		{goal{what: "w", benchmark: "A", unit: "other", than: "x"}, "| w | < 1.050 | 1.100 | **missed** |"},
		{goal{what: "w", benchmark: "B", unit: "n", want: 1e6, atLeast: true, show: "/s"}, "| w | ≥ 1,000,000/s | 999,999/s | **missed** |"},
		{goal{what: "w", benchmark: "C", unit: "n", want: 50, show: "ms"}, "| w | ≤ 50.0 ms | not measured | **missing** |"},
	} {
		if got := c.goal.row(all); got != c.want {
			t.Errorf("%+v: %s, want %s", c.goal, got, c.want)
		}
	}
}

func TestThePageHasEveryGoalAndCost(t *testing.T) {
	var b strings.Builder
	if err := write(&b, results{
		"Cost/send/10": {"gate": 1.25}, "Odd": {"n": 3},
		"Cost/socket/udp/10": {"ns/op": 900, "gate": 1.125}, "Cost/link/udp/10": {"ns/op": 900},
	}, machine{cpu: "a CPU"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range append([]string{"| send | 10 |", "1.250", "| socket/udp | 10 | 900 | 1.125 |", "| datagrams, connected | 10 |", "| Odd | 3 n |", "a CPU"}, goals[0].what, goals[len(goals)-1].what) {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in the page", want)
		}
	}
}

func TestTheWallsOnALinkAreRates(t *testing.T) {
	var b strings.Builder
	links(&b, results{
		"Cost/link/udp/10":        {"ns/op": 2000, "gate": 1.25, "gate+link": 2, "noise": 1},
		"Cost/link/stream/100000": {"ns/op": 16e3, "gate": 1, "gate+link": 1.6, "noise": 0.8},
	})
	for _, want := range []string{
		"| datagrams, connected | 10 | 500,000/s | 0.800 | 0.500 | 1.000 |\n",
		"| established TCP stream | 100000 | 977 MiB/s | 1.000 | 0.625 | 1.250 |\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, &b)
		}
	}
	if strings.Contains(b.String(), "not connected |") {
		t.Error("a row of what was not measured")
	}
}
