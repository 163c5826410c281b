package main

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

type proposedView struct {
	ID           string     `json:"id"`
	Text         string     `json:"text"`
	Admitted     uint64     `json:"addresses_admitted"`
	Seen         uint64     `json:"addresses_seen"`
	Count        uint64     `json:"count"`
	Denied       uint64     `json:"denied"`
	FirstSeen    *time.Time `json:"first_seen,omitempty"`
	LastSeen     *time.Time `json:"last_seen,omitempty"`
	Processes    []string   `json:"processes"`
	Hosts        []string   `json:"hosts"`
	Flags        []string   `json:"flags"`
	Destinations []string   `json:"destinations"`
}

type proposalView struct {
	ID       string         `json:"id"`
	Policy   string         `json:"policy"`
	Workload string         `json:"workload,omitempty"`
	Status   string         `json:"status"`
	Action   string         `json:"action,omitempty"`
	Title    string         `json:"title,omitempty"`
	Evidence string         `json:"evidence,omitempty"`
	Opened   uint64         `json:"opened"`
	Closed   uint64         `json:"closed,omitempty"`
	By       string         `json:"superseded_by,omitempty"`
	Decided  []string       `json:"decided,omitempty"`
	Rules    []proposedView `json:"rules"`
}

func viewProposal(p policy.Proposal) proposalView {
	v := proposalView{p.ID, p.Policy, p.Body.GetWorkload(), string(p.Status), p.Body.GetAction(), p.Body.GetTitle(),
		p.Body.GetEvidence(), p.Opened, p.Closed, p.By, p.Decided, []proposedView{}}
	for _, r := range p.Body.GetRules() {
		v.Rules = append(v.Rules, proposedView{r.GetRule().GetId(), r.GetRule().GetText(), r.GetAddressesAdmitted(), r.GetAddressesSeen(),
			r.GetCount(), r.GetDenied(), at(r.GetFirstSeenNs()), at(r.GetLastSeenNs()), some(r.GetProcesses()), some(r.GetHosts()),
			some(r.GetFlags()), some(r.GetDestinations())})
	}
	return v
}

func at(ns int64) *time.Time {
	if ns == 0 {
		return nil
	}
	t := time.Unix(0, ns).UTC()
	return &t
}

func some(all []string) []string { return append([]string{}, all...) }

// summed is the evidence of all rules of a proposal.
type summed struct {
	admits, seen     string
	count, denied    uint64
	lastNs           int64
	processes, flags []string
}

func sum(p *schemas.Proposal) summed {
	var s summed
	var seen uint64
	var admits []string
	for _, r := range p.GetRules() {
		s.count, s.denied = s.count+r.GetCount(), s.denied+r.GetDenied()
		s.lastNs = max(s.lastNs, r.GetLastSeenNs())
		seen += r.GetAddressesSeen()
		admits = append(admits, addresses(r))
		s.processes, s.flags = append(s.processes, r.GetProcesses()...), append(s.flags, r.GetFlags()...)
	}
	if p.GetAction() != "remove" && p != nil {
		s.admits, s.seen = strings.Join(admits, "+"), fmt.Sprint(seen)
	}
	s.processes, s.flags = distinct(s.processes), distinct(s.flags)
	return s
}

func distinct(all []string) []string {
	slices.Sort(all)
	return slices.Compact(all)
}

// addresses is how many a rule admits: a number, or a power of two where that
// says more.
func addresses(r *schemas.ProposedRule) string {
	if rule, err := policy.FromWire(r.GetRule()); err == nil {
		if free := rule.Prefix.Addr().BitLen() - rule.Prefix.Bits(); free > 32 {
			return fmt.Sprintf("2^%d", free)
		}
	}
	n := r.GetAddressesAdmitted()
	if n > 1<<32 {
		return fmt.Sprintf("2^%d", bits.Len64(n)-1)
	}
	return fmt.Sprint(n)
}

func firstRule(p *schemas.Proposal) string {
	switch rules := p.GetRules(); len(rules) {
	case 0:
		return ""
	case 1:
		return rules[0].GetRule().GetText()
	default:
		return fmt.Sprintf("%s and %d more", rules[0].GetRule().GetText(), len(rules)-1)
	}
}

// flagWords say what the learner's flags mean to who decides.
var flagWords = map[string]string{
	"private":         "an address of a private network",
	"link_local":      "a link-local address",
	"metadata":        "a cloud's metadata service, which tells secrets of the machine",
	"multicast":       "a multicast or broadcast address",
	"loopback":        "the host itself",
	"resolver":        "a name server: data can leave inside of questions",
	"single_sighting": "was seen once",
	"recent":          "was first seen within an hour of the proposal",
	"wide_ports":      "many ports of one address",
}

// proposalText tells all that is known of a proposal.
func proposalText(p policy.Proposal) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintln(&b, printable(fmt.Sprintf(format, args...))) }
	line("proposal %s for policy %s, %s since revision %d", p.ID, p.Policy, p.Status, max(p.Opened, p.Closed))
	if p.By != "" {
		line("  superseded by %s", p.By)
	}
	if title := p.Body.GetTitle(); title != "" {
		line("  %s", title)
	}
	for _, r := range p.Body.GetRules() {
		sign := map[string]string{"add": "+", "remove": "-"}[p.Body.GetAction()]
		line("  %s %s", sign, r.GetRule().GetText())
		if p.Body.GetAction() == "add" {
			line("      admits %s, %d seen", counted(addresses(r), "address", "addresses"), r.GetAddressesSeen())
			line("      %s, of which %d were denied, or would have been", plural(r.GetCount(), "decision"), r.GetDenied())
		}
		evidence(line, r)
	}
	if len(p.Decided) > 0 {
		line("  %s: %s", p.Status, strings.Join(p.Decided, "; "))
	}
	return b.String()
}

func counted(n, one, many string) string {
	if n == "1" {
		return n + " " + one
	}
	return n + " " + many
}

func evidence(line func(string, ...any), r *schemas.ProposedRule) {
	switch {
	case r.GetFirstSeenNs() != 0:
		line("      seen %s to %s", moment(r.GetFirstSeenNs()), moment(r.GetLastSeenNs()))
	case r.GetLastSeenNs() != 0:
		line("      last used %s", moment(r.GetLastSeenNs()))
	}
	for _, l := range []struct {
		title string
		items []string
	}{{"by", r.GetProcesses()}, {"on", r.GetHosts()}, {"to", r.GetDestinations()}} {
		if len(l.items) > 0 {
			line("      %s %s", l.title, someOf(l.items))
		}
	}
	for _, f := range r.GetFlags() {
		word := flagWords[f]
		if word == "" {
			word = f
		}
		line("      ! %s", word)
	}
}
