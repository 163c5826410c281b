package policy

import (
	"cmp"
	"fmt"
	"slices"
)

// Outcome is what an event did to the state.
type Outcome struct {
	Revision uint64
	// Changes to rules and modes, sorted.
	Changes []Change
	// Refused says why the event had no effect; empty when it had.
	Refused string
	// Old: the state had folded this event already.
	Old bool
}

// Change is one difference between two states of a policy.
type Change struct {
	Policy string
	// Op is add, remove, replace (comment, owner or expiry differ) or mode.
	Op string
	// Rule as it is after the change, or was before its removal.
	Rule Rule
	// Workload, From and To are of a mode; ModeUnknown is no override.
	Workload string
	From, To Mode
}

// String is such as "+ 10.0.0.0/8 tcp/443  # why".
func (c Change) String() string {
	switch c.Op {
	case "add":
		return "+ " + c.Rule.Line()
	case "remove":
		return "- " + c.Rule.Line()
	case "replace":
		return "~ " + c.Rule.Line()
	}
	return fmt.Sprintf("mode of %s: %s to %s", c.Workload, modeWord(c.From), modeWord(c.To))
}

func modeWord(m Mode) string {
	if m == ModeUnknown {
		return "its label"
	}
	return m.String()
}

func compareChanges(a, b Change) int {
	return cmp.Or(cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Op, b.Op), cmp.Compare(a.Workload, b.Workload),
		compareRules(&a.Rule, &b.Rule), cmp.Compare(a.Rule.String(), b.Rule.String()), cmp.Compare(a.Rule.Origin, b.Rule.Origin))
}

// Diff lists what leads from one state to the other. A rule that is both in a
// file and an operator's is two.
func Diff(from, to *State) []Change {
	var out []Change
	for _, name := range union(from.Policies(), to.Policies()) {
		a, b := from.books[name], to.books[name]
		if a == nil {
			a = newBook()
		}
		if b == nil {
			b = newBook()
		}
		out = append(out, diffRules(name, a.byText(), b.byText())...)
	}
	var workloads []string
	for _, o := range slices.Concat(from.Modes(), to.Modes()) {
		workloads = append(workloads, o.Workload)
	}
	slices.Sort(workloads)
	for _, w := range slices.Compact(workloads) {
		a, _ := from.Mode(w)
		b, _ := to.Mode(w)
		if a.Mode != b.Mode {
			out = append(out, Change{Op: "mode", Workload: w, From: a.Mode, To: b.Mode})
		}
	}
	return out
}

func union(a, b []string) []string {
	c := slices.Concat(a, b)
	slices.Sort(c)
	return slices.Compact(c)
}

// byText has the rules of a book, those of files apart.
func (b *book) byText() map[string]Rule {
	m := make(map[string]Rule, len(b.file)+len(b.operator))
	for _, r := range b.file {
		m["file "+r.canonical()] = r
	}
	for _, r := range b.operator {
		m["operator "+r.canonical()] = r
	}
	return m
}

func diffRules(policy string, from, to map[string]Rule) []Change {
	var out []Change
	for k, r := range to {
		old, ok := from[k]
		if !ok {
			out = append(out, Change{Policy: policy, Op: "add", Rule: r})
		} else if !sameRule(old, r) {
			out = append(out, Change{Policy: policy, Op: "replace", Rule: r})
		}
	}
	for k, r := range from {
		if _, ok := to[k]; !ok {
			out = append(out, Change{Policy: policy, Op: "remove", Rule: r})
		}
	}
	slices.SortFunc(out, compareChanges)
	return out
}

// sameRule compares what an operator can see of two rules of the same text,
// but for the line of the file.
func sameRule(a, b Rule) bool {
	return a.Comment == b.Comment && a.Owner == b.Owner && a.Origin == b.Origin && a.Expires.Equal(b.Expires)
}
