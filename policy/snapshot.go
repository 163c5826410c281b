package policy

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/egresswarden/egresswarden/schemas"
)

// snapshotFormat changes when an older reader would misread a snapshot.
const snapshotFormat = 1

type snapshot struct {
	Format    int                     `json:"format"`
	Revision  uint64                  `json:"revision"`
	Books     map[string]bookSnapshot `json:"policies"`
	Proposals []proposalSnapshot      `json:"proposals"`
	Refusals  []Refusal               `json:"refusals"`
}

type bookSnapshot struct {
	Last     uint64               `json:"last"`
	Changed  uint64               `json:"changed"`
	File     []*ruleSnapshot      `json:"file,omitempty"`
	Operator []*ruleSnapshot      `json:"operator,omitempty"`
	Imported Import               `json:"imported"`
	Modes    map[string]modeEntry `json:"modes,omitempty"`
	Undo     []undoSnapshot       `json:"undo,omitempty"`
	Effect   Effect               `json:"effect,omitzero"`
}

type undoSnapshot struct {
	Revision uint64                   `json:"revision"`
	Rules    map[string]*ruleSnapshot `json:"rules,omitempty"`
	Modes    map[string]Mode          `json:"modes,omitempty"`
}

// ruleSnapshot is a rule as it travels, with the ID that the fold gave it.
type ruleSnapshot struct {
	ID        string `json:"id"`
	Text      string `json:"text"`
	Comment   string `json:"comment,omitempty"`
	Owner     string `json:"owner,omitempty"`
	Origin    string `json:"origin"`
	Source    string `json:"source,omitempty"`
	ExpiresNs int64  `json:"expires_ns,omitempty"`
}

type proposalSnapshot struct {
	ID      string   `json:"id"`
	Policy  string   `json:"policy"`
	Status  Status   `json:"status"`
	Opened  uint64   `json:"opened"`
	Closed  uint64   `json:"closed,omitempty"`
	By      string   `json:"by,omitempty"`
	Body    []byte   `json:"body,omitempty"`
	Decided []string `json:"decided,omitempty"`
}

// Encode writes the state as JSON: equal states give equal bytes.
func (s *State) Encode() ([]byte, error) {
	out := snapshot{Format: snapshotFormat, Revision: s.revision, Books: map[string]bookSnapshot{}, Refusals: s.refusals}
	for name, b := range s.books {
		out.Books[name] = b.snapshot(s.Policy(name).Rules[len(b.file):])
	}
	for _, status := range []Status{StatusOpen, StatusApproved, StatusRejected, StatusSuperseded} {
		for _, p := range s.Proposals("", status) {
			e := proposalSnapshot{p.ID, p.Policy, p.Status, p.Opened, p.Closed, p.By, nil, p.Decided}
			if p.Body != nil {
				body, err := proto.MarshalOptions{Deterministic: true}.Marshal(p.Body)
				if err != nil {
					return nil, fmt.Errorf("encode proposal %s: %w", p.ID, err)
				}
				e.Body = body
			}
			out.Proposals = append(out.Proposals, e)
		}
	}
	return json.Marshal(out)
}

func (b *book) snapshot(operator []Rule) bookSnapshot {
	out := bookSnapshot{Last: b.last, Changed: b.changed, File: snapRules(b.file), Operator: snapRules(operator),
		Imported: b.imported, Modes: b.modes, Effect: b.effect}
	for _, u := range b.undo {
		e := undoSnapshot{Revision: u.Revision, Modes: u.Modes, Rules: map[string]*ruleSnapshot{}}
		for text, r := range u.Rules {
			e.Rules[text] = nil
			if r != nil {
				e.Rules[text] = snapRule(*r)
			}
		}
		out.Undo = append(out.Undo, e)
	}
	return out
}

func snapRule(r Rule) *ruleSnapshot {
	w := r.Wire()
	return &ruleSnapshot{w.Id, w.Text, w.Comment, w.Owner, w.Origin, w.Source, w.ExpiresNs}
}

func snapRules(rules []Rule) []*ruleSnapshot {
	out := make([]*ruleSnapshot, len(rules))
	for i, r := range rules {
		out[i] = snapRule(r)
	}
	return out
}

// DecodeState reads what Encode wrote. Folding on from it gives what folding
// the whole log gives.
func DecodeState(data []byte) (*State, error) {
	var in snapshot
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, fmt.Errorf("decode policy snapshot: %w", err)
	}
	if in.Format != snapshotFormat {
		return nil, fmt.Errorf("decode policy snapshot: format %d, want %d", in.Format, snapshotFormat)
	}
	s := NewState()
	s.revision, s.refusals = in.Revision, in.Refusals
	for name, b := range in.Books {
		if err := s.decodeBook(name, b); err != nil {
			return nil, fmt.Errorf("decode policy snapshot: policy %s: %w", name, err)
		}
	}
	for _, p := range in.Proposals {
		e := &Proposal{p.ID, p.Policy, p.Status, p.Opened, p.Closed, p.By, nil, p.Decided}
		if p.Status != StatusSuperseded {
			e.Body = &schemas.Proposal{}
			if err := proto.Unmarshal(p.Body, e.Body); err != nil {
				return nil, fmt.Errorf("decode policy snapshot: proposal %s: %w", p.ID, err)
			}
		}
		s.keep(e)
	}
	return s, nil
}

func (s *State) decodeBook(name string, in bookSnapshot) error {
	b := newBook()
	s.books[name] = b
	b.last, b.changed, b.imported, b.effect = in.Last, in.Changed, in.Imported, in.Effect
	if in.Modes != nil {
		b.modes = in.Modes
	}
	for _, w := range in.File {
		r, err := s.decodeHeld(w)
		if err != nil {
			return err
		}
		b.file = append(b.file, r)
	}
	for _, w := range in.Operator {
		r, err := s.decodeHeld(w)
		if err != nil {
			return err
		}
		b.operator[r.ID] = r
	}
	for _, u := range in.Undo {
		e := undo{Revision: u.Revision, Rules: map[string]*Rule{}, Modes: u.Modes}
		for text, w := range u.Rules {
			e.Rules[text] = nil
			if w != nil {
				r, err := w.rule()
				if err != nil {
					return err
				}
				e.Rules[text] = &r
			}
		}
		b.undo = append(b.undo, e)
	}
	return nil
}

func (w *ruleSnapshot) rule() (Rule, error) {
	r, err := FromWire(&schemas.Rule{Text: w.Text, Comment: w.Comment, Owner: w.Owner, Origin: w.Origin,
		Source: w.Source, ExpiresNs: w.ExpiresNs})
	r.ID = w.ID
	return r, err
}

// decodeHeld reads a rule and holds the ID that the snapshot gives it.
func (s *State) decodeHeld(w *ruleSnapshot) (Rule, error) {
	r, err := w.rule()
	if err != nil {
		return Rule{}, err
	}
	if r.Number() < RuleReserved {
		return Rule{}, fmt.Errorf("rule %s: ID %q", r, w.ID)
	}
	text := r.canonical()
	e := s.names.byText[text]
	if e == nil {
		e = &named{id: w.ID, text: text}
		s.names.byText[text], s.names.byID[w.ID] = e, e
	}
	e.held++
	return r, nil
}

// Clone is an independent copy, for a candidate.
func (s *State) Clone() (*State, error) {
	data, err := s.Encode()
	if err != nil {
		return nil, fmt.Errorf("clone policy state: %w", err)
	}
	return DecodeState(data)
}
