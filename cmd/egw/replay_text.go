package main

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/egresswarden/egresswarden/operator"
	"github.com/egresswarden/egresswarden/policy"
)

// summaryRows is how many destinations a summary names.
const summaryRows = 15

type groupView struct {
	Policy    string    `json:"policy"`
	Workload  string    `json:"workload"`
	DstIP     string    `json:"dst_ip"`
	Attempt   string    `json:"attempt,omitempty"`
	Proto     string    `json:"proto"`
	DstPort   uint16    `json:"dst_port"`
	Before    string    `json:"before"`
	After     string    `json:"after"`
	Rule      string    `json:"rule"`
	RuleText  string    `json:"rule_text"`
	Count     uint64    `json:"count"`
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
	Processes []string  `json:"processes"`
}

type replayView struct {
	Revision     uint64            `json:"revision"`
	Since        time.Time         `json:"since"`
	Events       uint64            `json:"events"`
	Decisions    uint64            `json:"decisions"`
	Denied       uint64            `json:"newly_denied"`
	Allowed      uint64            `json:"newly_allowed"`
	Unchanged    map[string]uint64 `json:"unchanged"`
	Unattributed uint64            `json:"unattributed"`
	Lost         uint64            `json:"lost"`
	Unreadable   int               `json:"unreadable_messages"`
	Truncated    bool              `json:"truncated"`
	NewlyDenied  []groupView       `json:"denied_groups"`
	NewlyAllowed []groupView       `json:"allowed_groups"`
}

func viewReplay(state *policy.State, r operator.Replayed) replayView {
	v := replayView{Revision: r.Revision, Since: r.Since.UTC(), Events: r.Events, Decisions: r.Decisions, Denied: r.Denied,
		Allowed: r.Allowed, Unchanged: map[string]uint64{}, Unattributed: r.Unattributed, Lost: r.Lost, Unreadable: r.Unreadable,
		Truncated: r.Truncated, NewlyDenied: viewGroups(state, r.NewlyDenied), NewlyAllowed: viewGroups(state, r.NewlyAllowed)}
	for verdict, n := range r.Unchanged {
		v.Unchanged[verdict.String()] = n
	}
	return v
}

func viewGroups(state *policy.State, groups []policy.Group) []groupView {
	out := []groupView{}
	names := ruleNames{state: state}
	for _, g := range groups {
		dst := ""
		if g.Dst.IsValid() {
			dst = g.Dst.String()
		}
		out = append(out, groupView{g.Policy, g.Workload, dst, g.Attempt, g.Proto.String(), g.Port, g.Before.String(), g.After.String(),
			fmt.Sprintf("%08x", g.Rule), names.text(g), g.Count, g.FirstSeen, g.LastSeen, append([]string{}, g.Processes...)})
	}
	return out
}

// ruleNames finds the texts of rules by their numbers.
type ruleNames struct {
	state *policy.State
	known map[string]map[uint32]string
}

func (n *ruleNames) text(g policy.Group) string {
	if text, ok := policy.ImplicitRule(g.Rule); ok {
		return text
	}
	if n.known == nil {
		n.known = map[string]map[uint32]string{}
	}
	if n.known[g.Policy] == nil {
		n.known[g.Policy] = map[uint32]string{}
		for _, name := range []string{g.Policy, policy.Everyone} {
			for _, r := range n.state.Policy(name).Rules {
				n.known[g.Policy][r.Number()] = r.String()
			}
		}
	}
	if text := n.known[g.Policy][g.Rule]; text != "" {
		return text
	}
	return fmt.Sprintf("%08x", g.Rule)
}

// replayText tells what a replay found; rows bounds the destinations, 0 does not.
func replayText(w io.Writer, state *policy.State, r operator.Replayed, rows int) error {
	fmt.Fprintf(w, "%s since %s, under revision %d: %d would newly be denied, %d newly allowed.\n",
		plural(r.Decisions, "decision"), instant(r.Since), r.Revision, r.Denied, r.Allowed)
	if r.Unattributed > 0 {
		fmt.Fprintf(w, "Of %s the destination is not known: nothing can be said of them.\n", plural(r.Unattributed, "decision"))
	}
	if r.Lost > 0 {
		fmt.Fprintf(w, "%s of all workloads were deleted for want of room.\n", plural(r.Lost, "recorded decision"))
	}
	if r.Unreadable > 0 {
		fmt.Fprintf(w, "%s could not be read.\n", plural(r.Unreadable, "message"))
	}
	for _, part := range []struct {
		title  string
		groups []policy.Group
	}{{"Newly denied:", r.NewlyDenied}, {"Newly allowed:", r.NewlyAllowed}} {
		if len(part.groups) == 0 {
			continue
		}
		fmt.Fprintln(w, part.title)
		if err := groupTable(w, state, part.groups, rows); err != nil {
			return err
		}
	}
	if r.Truncated {
		fmt.Fprintf(w, "There are more than %d destinations; the others are counted alone.\n", policy.MaxGroups)
	}
	return nil
}

func groupTable(w io.Writer, state *policy.State, groups []policy.Group, most int) error {
	shown := groups
	if most > 0 && len(groups) > most {
		shown = groups[:most]
	}
	names := ruleNames{state: state}
	var rows [][]string
	for _, g := range shown {
		to := "(" + g.Attempt + ")"
		if g.Dst.IsValid() {
			to = endpoint(g.Dst, g.Port)
		}
		rows = append(rows, []string{g.Workload, g.Proto.String(), to, g.Before.String() + " -> " + g.After.String(),
			strconv.FormatUint(g.Count, 10), instant(g.LastSeen), strings.Join(g.Processes, ","), names.text(g)})
	}
	if err := columns(w, []string{"WORKLOAD", "PROTO", "DESTINATION", "VERDICT", "COUNT", "LAST SEEN", "PROCESSES", "RULE"}, rows); err != nil {
		return err
	}
	if len(shown) < len(groups) {
		_, err := fmt.Fprintf(w, "and %s more; egw replay shows all\n", plural(len(groups)-len(shown), "destination"))
		return err
	}
	return nil
}

func endpoint(a netip.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}
