package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/egresswarden/egresswarden/operator"
	"github.com/egresswarden/egresswarden/policy"
)

// ruleView is a rule as json shows it.
type ruleView struct {
	ID      string     `json:"id"`
	Policy  string     `json:"policy,omitempty"`
	Action  string     `json:"action"`
	Dst     string     `json:"dst"`
	Ports   []string   `json:"ports"`
	Text    string     `json:"text"`
	Comment string     `json:"comment,omitempty"`
	Origin  string     `json:"origin"`
	Owner   string     `json:"owner,omitempty"`
	Source  string     `json:"source,omitempty"`
	Expires *time.Time `json:"expires,omitempty"`
	Expired bool       `json:"expired,omitempty"`
}

func viewRule(name string, r policy.Rule, now time.Time) ruleView {
	v := ruleView{ID: r.ID, Policy: name, Action: r.Action.String(), Dst: r.Prefix.String(), Ports: []string{},
		Text: r.String(), Comment: r.Comment, Origin: string(r.Origin), Owner: r.Owner, Source: r.Source,
		Expired: r.ExpiredAt(now)}
	for _, p := range r.Ports {
		v.Ports = append(v.Ports, p.String())
	}
	if !r.Expires.IsZero() {
		v.Expires = &r.Expires
	}
	return v
}

// changeView is a change as json shows it.
type changeView struct {
	Op       string    `json:"op"`
	Rule     *ruleView `json:"rule,omitempty"`
	Workload string    `json:"workload,omitempty"`
	From     string    `json:"from,omitempty"`
	To       string    `json:"to,omitempty"`
}

func viewChanges(all []policy.Change) []changeView {
	out := []changeView{}
	for _, c := range all {
		v := changeView{Op: c.Op}
		if c.Op == "mode" {
			v.Workload, v.From, v.To = c.Workload, modeName(c.From), modeName(c.To)
		} else {
			r := viewRule(c.Policy, c.Rule, time.Time{})
			v.Rule = &r
		}
		out = append(out, v)
	}
	return out
}

// doneView is a change that was made; without a revision it was not.
type doneView struct {
	Policy   string       `json:"policy,omitempty"`
	Revision uint64       `json:"revision"`
	What     string       `json:"what"`
	Changes  []changeView `json:"changes"`
	// Connections is what that did where enforcers answered.
	Connections *landing `json:"connections,omitempty"`
}

func viewDone(d operator.Done, on *landing) doneView {
	return doneView{d.Policy, d.Revision, d.What, viewChanges(d.Changes), on}
}

// modeName is the word that sets the mode.
func modeName(m policy.Mode) string {
	if m == policy.ModeUnknown {
		return "label"
	}
	return m.String()
}

// changeLine is a change with the ID of its rule and its end.
func changeLine(c policy.Change) string {
	line := c.String()
	if c.Op != "mode" {
		line = fmt.Sprintf("%s %s  %s", line[:1], c.Rule.ID, line[2:])
		if !c.Rule.Expires.IsZero() {
			line += "  (until " + instant(c.Rule.Expires) + ")"
		}
	}
	return printable(line)
}

// ruleRow is a rule's row in a table.
func ruleRow(r policy.Rule, now time.Time) []string {
	from := string(r.Origin)
	if r.Source != "" {
		from = r.Source
	}
	until := instant(r.Expires)
	if r.ExpiredAt(now) {
		until = "ended " + until
	}
	return []string{r.ID, r.String(), from, r.Owner, until, strings.TrimSpace(r.Comment)}
}

var ruleHeader = []string{"ID", "RULE", "FROM", "OWNER", "UNTIL", "COMMENT"}
