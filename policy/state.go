package policy

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// State is the fold of the policy log up to a revision. The same log gives the
// same state everywhere; nothing else goes in, no clock and no configuration.
// It is not safe for concurrent use.
type State struct {
	revision  uint64
	books     map[string]*book
	proposals map[string]*Proposal
	// ofPolicy has the same proposals by policy: there are more of them each day.
	ofPolicy map[string][]*Proposal
	refusals []Refusal
	names    names
}

// book is what the log says of one policy.
type book struct {
	// last is the sequence of the last event of this policy.
	last uint64
	// changed is the revision that last changed the rules.
	changed uint64
	// file has the rules from files in their order; operator the others by ID.
	file     []Rule
	operator map[string]Rule
	// imported says which file the file rules are from.
	imported Import
	// modes has an entry with ModeUnknown where an override was taken back.
	modes map[string]modeEntry
	// undo takes the operators' changes back, the last one first.
	undo []undo
	// effect is the last event that changed anything.
	effect Effect
}

// Effect is an event that changed a policy.
type Effect struct {
	Revision uint64 `json:"revision"`
	// Keep: what is established already is left alone.
	Keep bool `json:"keep,omitempty"`
}

type modeEntry struct {
	Mode     Mode   `json:"mode"`
	Revision uint64 `json:"revision"`
}

// Import names the file whose rules a policy has.
type Import struct {
	File     string `json:"file,omitempty"`
	SHA256   string `json:"sha256,omitempty"`
	Revision uint64 `json:"revision,omitempty"`
}

// Refusal is an event of the log that had no effect, and why.
type Refusal struct {
	Revision uint64 `json:"revision"`
	Policy   string `json:"policy"`
	Reason   string `json:"reason"`
}

// Override is a mode that an operator set.
type Override struct {
	Workload string
	Mode     Mode
	Revision uint64
}

// NewState is the state before the first event.
func NewState() *State {
	return &State{books: map[string]*book{}, proposals: map[string]*Proposal{}, ofPolicy: map[string][]*Proposal{}, names: newNames()}
}

func newBook() *book { return &book{operator: map[string]Rule{}, modes: map[string]modeEntry{}} }

// Revision is that of the last event folded, 0 before the first.
func (s *State) Revision() uint64 { return s.revision }

// Policies are the names of all policies that the log speaks of, sorted.
func (s *State) Policies() []string { return slices.Sorted(maps.Keys(s.books)) }

// LastSequence is the revision of the last event of a policy: what an append
// must expect to be last.
func (s *State) LastSequence(policy string) uint64 {
	if b := s.books[policy]; b != nil {
		return b.last
	}
	return 0
}

// LastEffect is the last event that changed rules or modes of a policy; the
// zero Effect if none did.
func (s *State) LastEffect(policy string) Effect {
	if b := s.books[policy]; b != nil {
		return b.effect
	}
	return Effect{}
}

// Policy has a policy's own rules: those of its file in their order, then the
// operators', sorted by prefix. Expired ones are among them.
func (s *State) Policy(name string) Policy {
	b := s.books[name]
	if b == nil {
		return Policy{Name: name}
	}
	own := slices.SortedFunc(maps.Values(b.operator), func(x, y Rule) int {
		return cmp.Or(compareRules(&x, &y), cmp.Compare(x.canonical(), y.canonical()))
	})
	return Policy{Name: name, Revision: b.changed, Rules: slices.Concat(b.file, own)}
}

// Effective is what a workload of the policy lives under at a time: its own
// rules and those of Everyone, without the expired. Its revision is the later
// of both.
func (s *State) Effective(name string, now time.Time) Policy {
	p := s.Policy(name)
	if name != Everyone {
		all := s.Policy(Everyone)
		p.Revision = max(p.Revision, all.Revision)
		p.Rules = append(p.Rules, all.Rules...)
	}
	p.Rules = slices.DeleteFunc(p.Rules, func(r Rule) bool { return r.ExpiredAt(now) })
	return p
}

// NextExpiry is when the next rule of any policy ends after now.
func (s *State) NextExpiry(now time.Time) (time.Time, bool) {
	var next time.Time
	for _, b := range s.books {
		for _, rules := range [](func(func(Rule) bool)){maps.Values(b.operator), slices.Values(b.file)} {
			for r := range rules {
				if r.Expires.After(now) && (next.IsZero() || r.Expires.Before(next)) {
					next = r.Expires
				}
			}
		}
	}
	return next, !next.IsZero()
}

// Imported names the file whose rules the policy has; the zero Import if none.
func (s *State) Imported(policy string) Import {
	if b := s.books[policy]; b != nil {
		return b.imported
	}
	return Import{}
}

// Mode is the operators' override for a workload, if there is one. Where
// events of several policies speak of it, the last one counts.
func (s *State) Mode(workload string) (Override, bool) {
	var last modeEntry
	for _, b := range s.books {
		if e := b.modes[workload]; e.Revision > last.Revision {
			last = e
		}
	}
	return Override{workload, last.Mode, last.Revision}, last.Mode != ModeUnknown
}

// Modes are all overrides, sorted by workload.
func (s *State) Modes() []Override {
	names := map[string]bool{}
	for _, b := range s.books {
		for w := range b.modes {
			names[w] = true
		}
	}
	var out []Override
	for _, w := range slices.Sorted(maps.Keys(names)) {
		if o, ok := s.Mode(w); ok {
			out = append(out, o)
		}
	}
	return out
}

// Refusals are the events without effect, in order.
func (s *State) Refusals() []Refusal { return slices.Clone(s.refusals) }

// names gives the rules that are held at one time different IDs; see
// Distinguish.
type names struct {
	byText map[string]*named
	byID   map[string]*named
}

type named struct {
	id, text string
	held     int
}

func newNames() names { return names{map[string]*named{}, map[string]*named{}} }

func (n names) hold(r Rule) Rule {
	text := r.canonical()
	e := n.byText[text]
	if e == nil {
		id := firstID(text, func(id string) bool { return n.byID[id] != nil })
		e = &named{id: id, text: text}
		n.byText[text], n.byID[id] = e, e
	}
	e.held++
	r.ID = e.id
	return r
}

func (n names) release(r Rule) {
	e := n.byID[r.ID]
	if e.held--; e.held == 0 {
		delete(n.byText, e.text)
		delete(n.byID, e.id)
	}
}
