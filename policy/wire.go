package policy

import (
	"fmt"
	"time"

	"github.com/egresswarden/egresswarden/schemas"
)

// Wire is the rule as it travels in events.
func (r Rule) Wire() *schemas.Rule {
	w := &schemas.Rule{Id: r.ID, Text: r.String(), Comment: r.Comment, Owner: r.Owner,
		Origin: string(r.Origin), Source: r.Source}
	if !r.Expires.IsZero() {
		w.ExpiresNs = r.Expires.UnixNano()
	}
	return w
}

// FromWire reads a rule that came in an event. Its ID is computed from its
// text, whatever the event says.
func FromWire(w *schemas.Rule) (Rule, error) {
	r, err := ParseRule(w.GetText())
	if err != nil {
		return Rule{}, fmt.Errorf("rule %q: %w", w.GetText(), err)
	}
	r.Comment, r.Owner, r.Source = w.GetComment(), w.GetOwner(), w.GetSource()
	switch r.Origin = Origin(w.GetOrigin()); r.Origin {
	case "":
		r.Origin = OriginOperator
	case OriginFile, OriginOperator, OriginProposal:
	default:
		return Rule{}, fmt.Errorf("rule %q: origin %q: want file, operator or proposal", w.GetText(), r.Origin)
	}
	if ns := w.GetExpiresNs(); ns != 0 {
		r.Expires = time.Unix(0, ns).UTC()
	}
	return r, nil
}

// WireRules is Wire of each.
func WireRules(rules []Rule) []*schemas.Rule {
	out := make([]*schemas.Rule, len(rules))
	for i, r := range rules {
		out[i] = r.Wire()
	}
	return out
}

// fromWireAll reads the rules of an event; the same rule twice is an error.
func fromWireAll(in []*schemas.Rule) ([]Rule, error) {
	out := make([]Rule, 0, len(in))
	seen := make(map[string]bool, len(in))
	for _, w := range in {
		r, err := FromWire(w)
		if err != nil {
			return nil, err
		}
		text := r.canonical()
		if seen[text] {
			return nil, fmt.Errorf("rule %s is there twice", r)
		}
		seen[text] = true
		out = append(out, r)
	}
	return out, nil
}
