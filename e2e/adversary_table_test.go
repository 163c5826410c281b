package e2e

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil/adversary"
)

var update = flag.Bool("update", false, "write the table of docs/THREATS.md from this run of the adversary")

// The table is between these lines of the file.
const (
	threats    = "../docs/THREATS.md"
	tableBegin = "<!-- adversary: written by make threats -->\n"
	tableEnd   = "<!-- end -->\n"
	tableHead  = "| way | how | in block | the application sees |\n|---|---|---|---|\n"
)

// row is a line of the table: a way, in all its families.
type row struct {
	name, how, needs string
	families         []string
	block, sees      string
}

// rows are without what only a run tells.
func rows() []*row {
	var all []*row
	for _, w := range adversary.All() {
		if w.Allowed {
			continue
		}
		at := slices.IndexFunc(all, func(r *row) bool { return r.name == w.Name })
		if at < 0 {
			all, at = append(all, &row{name: w.Name, how: w.How, needs: w.Needs}), len(all)
		}
		if w.Family != "" {
			all[at].families = append(all[at].families, w.Family)
		}
	}
	return all
}

// first are the columns that do not depend on a run.
func (r *row) first() string {
	name := r.name
	if len(r.families) != 0 {
		name += " (" + strings.Join(r.families, ", ") + ")"
	}
	return fmt.Sprintf("| %s | %s |", name, r.how)
}

// third is how an open way is shown; other rows say where it was stopped.
func (r *row) third() (string, bool) {
	reason, open := openWays[r.name]
	return "**open**: " + reason, open
}

// update writes the table.
func (c *crew) update(t *testing.T, open, closed []*hostile) {
	t.Helper()
	if !*update {
		return
	}
	var text strings.Builder
	text.WriteString(tableBegin + tableHead)
	for _, r := range rows() {
		c.fill(r, open, closed)
		fmt.Fprintf(&text, "%s %s | %s |\n", r.first(), r.block, r.sees)
	}
	text.WriteString(tableEnd)
	before, _, after := readThreats(t)
	if err := os.WriteFile(threats, []byte(before+text.String()+after), 0o644); err != nil { //nolint:gosec // a document
		t.Fatal(err)
	}
}

// fill takes the first run in which the way worked while nothing stopped it.
func (c *crew) fill(r *row, open, closed []*hostile) {
	for n, w := range adversary.All() {
		for i, o := range open {
			if w.Name != r.name || c.wire.count(o.run, n) == 0 || r.block != "" {
				continue
			}
			report := closed[i].reports[n]
			r.block, r.sees = "stopped: "+layer(report), report.Saw()
		}
	}
	if text, ok := r.third(); ok {
		r.block = text
	}
	if r.sees == "" {
		r.block = cmp.Or(r.block, "not effective where this was run")
		r.sees = "needs " + r.needs
	}
}

// layer says where the kernel refused.
func layer(r adversary.Report) string {
	switch {
	case r.Step == "socket":
		return "making the socket"
	case r.Step == "setsockopt":
		return "setting the option"
	case strings.Contains(r.Step, "connect"):
		return "connect"
	case r.Refused():
		return "sending"
	case r.Errno == "ECONNABORTED" || r.Errno == "EPIPE" || r.Errno == "EDESTADDRREQ":
		return "the connection was cut"
	}
	return "the packet"
}

// readThreats returns the file in three parts.
func readThreats(t *testing.T) (before, table, after string) {
	t.Helper()
	text, err := os.ReadFile(threats)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), tableBegin)
	table, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table: want the lines %q and %q", threats, tableBegin, tableEnd)
	}
	return before, table, after
}

// TestThreatsTable holds the document to the techniques and to openWays.
func TestThreatsTable(t *testing.T) {
	_, table, _ := readThreats(t)
	lines := strings.Split(strings.TrimSpace(strings.TrimPrefix(table, tableHead)), "\n")
	all := rows()
	if len(lines) != len(all) {
		t.Errorf("%s lists %d ways, the adversary has %d: make threats", threats, len(lines), len(all))
	}
	for i, r := range all[:min(len(all), len(lines))] {
		want, open := r.third()
		switch {
		case !strings.HasPrefix(lines[i], r.first()):
			t.Fatalf("%s says\n%s\nwant\n%s ...: make threats", threats, lines[i], r.first())
		case open && !strings.Contains(lines[i], "| "+want+" |"), !open && strings.Contains(lines[i], "| **open**"):
			t.Errorf("%s says\n%s\nbut open is %v, %s: make threats", threats, lines[i], open, want)
		}
	}
	for name := range openWays {
		if !slices.ContainsFunc(all, func(r *row) bool { return r.name == name }) {
			t.Errorf("openWays has %q, which is no technique", name)
		}
	}
}
