package operator

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// Add drafts a rule of an operator. Where the same rule is there already its
// comment and owner stay, unless there are new ones; its end does not.
func (d *Desk) Add(name string, r policy.Rule, reason string) (*Draft, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	r.Origin, r.Source = policy.OriginOperator, ""
	for _, old := range d.state.Policy(name).Rules {
		if old.Origin == policy.OriginFile || old.String() != r.String() {
			continue
		}
		r.Comment, r.Owner = cmp.Or(r.Comment, old.Comment), cmp.Or(r.Owner, old.Owner)
		if r.Comment == old.Comment && r.Owner == old.Owner && r.Expires.Equal(old.Expires) {
			return nil, unchangedf("policy %s has the rule %s %s already", name, old.ID, r)
		}
	}
	return d.draft(&schemas.PolicyEvent{Policy: name, Reason: reason, Change: &schemas.PolicyEvent_RuleAdded{
		RuleAdded: &schemas.RuleAdded{Rules: []*schemas.Rule{r.Wire()}}}}, d.state.Revision())
}

// Remove drafts the removal of rules, named by ID or by text. A rule from a
// file is refused, with the place where it can be changed.
func (d *Desk) Remove(name string, which []string, reason string) (*Draft, error) {
	if err := d.known(name); err != nil {
		return nil, err
	}
	var ids []string
	for _, w := range which {
		id, err := d.find(name, w)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return d.draft(&schemas.PolicyEvent{Policy: name, Reason: reason, Change: &schemas.PolicyEvent_RuleRemoved{
		RuleRemoved: &schemas.RuleRemoved{Ids: ids}}}, d.state.Revision())
}

// find gives the ID of the operators' rule that has this ID or text.
func (d *Desk) find(name, which string) (string, error) {
	text := ""
	if r, err := policy.ParseRule(which); err == nil {
		text = r.String()
	}
	var file *policy.Rule
	for _, r := range d.state.Policy(name).Rules {
		if r.ID != which && (text == "" || r.String() != text) {
			continue
		}
		if r.Origin != policy.OriginFile {
			return r.ID, nil
		}
		file = &r
	}
	if file != nil {
		return "", refusedf("rule %s of policy %s (%s) is from %s: change it there", file.ID, name, file, file.Source)
	}
	return "", notFoundf("policy %s has no rule %s", name, which)
}

// Import drafts the replacement of all rules that are not from a file. A rule
// that is there already keeps its owner, origin and end.
func (d *Desk) Import(name, file string, sum string, rules []policy.Rule, reason string) (*Draft, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	now := d.now()
	kept := map[string]policy.Rule{}
	for _, r := range d.state.Policy(name).Rules {
		if r.Origin != policy.OriginFile && !r.ExpiredAt(now) {
			kept[r.String()] = r
		}
	}
	for i := range rules {
		rules[i].Origin, rules[i].Source = policy.OriginOperator, ""
		if old, ok := kept[rules[i].String()]; ok {
			rules[i].Origin, rules[i].Expires = old.Origin, old.Expires
			if rules[i].Owner == "" {
				rules[i].Owner = old.Owner
			}
		}
	}
	c, err := d.draft(&schemas.PolicyEvent{Policy: name, Reason: reason, Change: &schemas.PolicyEvent_RulesImported{
		RulesImported: &schemas.RulesImported{Rules: policy.WireRules(rules), File: file, Sha256: sum}}}, d.state.Revision())
	if err == nil && len(c.Changes) == 0 {
		return nil, unchangedf("policy %s has these rules already", name)
	}
	return c, err
}

// RollBack drafts the return of a policy to a revision.
func (d *Desk) RollBack(name string, to uint64, reason string) (*Draft, error) {
	if err := d.known(name); err != nil {
		return nil, err
	}
	if to > d.state.Revision() {
		return nil, notFoundf("the policy log ends at revision %d", d.state.Revision())
	}
	return d.draft(&schemas.PolicyEvent{Policy: name, Reason: reason, Change: &schemas.PolicyEvent_RolledBack{
		RolledBack: &schemas.RolledBack{ToRevision: to}}}, d.state.Revision())
}

// SetMode drafts the mode of a workload; ModeUnknown gives it back to its
// label.
func (d *Desk) SetMode(workload string, mode policy.Mode, reason string) (*Draft, error) {
	if err := CheckName(workload); err != nil {
		return nil, err
	}
	if o, ok := d.state.Mode(workload); o.Mode == mode {
		if !ok {
			return nil, unchangedf("the mode of %s is its label's already", workload)
		}
		return nil, unchangedf("the mode of %s is %s already, since revision %d", workload, mode, o.Revision)
	}
	return d.draft(&schemas.PolicyEvent{Policy: workload, Reason: reason, Change: &schemas.PolicyEvent_ModeSet{
		ModeSet: &schemas.ModeSet{Workload: workload, Mode: schemas.Mode(mode)}}}, d.state.Revision())
}

// Shadows are the deny rules that apply to the policy and take something of an
// allow rule away.
func (d *Desk) Shadows(name string, r policy.Rule) []policy.Rule {
	if r.Action != policy.ActionAllow {
		return nil
	}
	return slices.DeleteFunc(d.state.Effective(name, d.now()).Rules, func(o policy.Rule) bool {
		return o.Action != policy.ActionDeny || !o.Prefix.Overlaps(r.Prefix) || !portsMeet(o.Ports, r.Ports)
	})
}

func portsMeet(a, b []policy.PortRange) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(x policy.PortRange) bool {
		return slices.ContainsFunc(b, func(y policy.PortRange) bool {
			return x.Proto == y.Proto && x.First <= y.Last && y.First <= x.Last
		})
	})
}

// Until is when a rule ends that lives for a while; 0 is never.
func (d *Desk) Until(ttl time.Duration) time.Time {
	if ttl == 0 {
		return time.Time{}
	}
	return d.now().Add(ttl)
}

// maxName bounds a policy's name, as the enforcer does, in bytes.
const maxName = 200

// CheckName refuses what no workload can be called.
func CheckName(name string) error {
	if name == "" || len(name) > maxName || strings.ToValidUTF8(name, "") != name ||
		strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0 {
		return invalidf("name %q: want a name of 1 to %d bytes without control characters", name, maxName)
	}
	return nil
}
