package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/egresswarden/egresswarden/schemas"
)

// Apply folds the event that the log has at a revision. An event that cannot
// take effect is refused, with the reason in the outcome and in Refusals; it
// still counts as the last of its policy. An event at or below Revision was
// folded before and does nothing.
func (s *State) Apply(revision uint64, e *schemas.PolicyEvent) Outcome {
	if revision <= s.revision {
		return Outcome{Revision: revision, Old: true}
	}
	s.revision = revision
	name := e.GetPolicy()
	b := s.books[name]
	if b == nil {
		b = newBook()
		s.books[name] = b
	}
	b.last = revision
	t := &txn{state: s, book: b, name: name, revision: revision}
	if err := t.event(e); err != nil {
		s.refusals = append(s.refusals, Refusal{revision, name, err.Error()})
		return Outcome{Revision: revision, Refused: err.Error()}
	}
	if len(t.changes) > 0 {
		b.effect = Effect{revision, e.GetKeepEstablished()}
	}
	slices.SortFunc(t.changes, compareChanges)
	return Outcome{Revision: revision, Changes: t.changes}
}

// txn is the work of one event. A method that returns an error has changed
// nothing.
type txn struct {
	state    *State
	book     *book
	name     string
	revision uint64
	changes  []Change
	undo     undo
}

func (t *txn) event(e *schemas.PolicyEvent) error {
	if t.name == "" {
		return errors.New("the event names no policy")
	}
	if err := t.change(e); err != nil {
		return err
	}
	if !t.undo.empty() {
		t.undo.Revision = t.revision
		t.book.undo = append(t.book.undo, t.undo)
	}
	return nil
}

func (t *txn) change(e *schemas.PolicyEvent) error {
	switch c := e.GetChange().(type) {
	case *schemas.PolicyEvent_RuleAdded:
		return t.add(c.RuleAdded.GetRules())
	case *schemas.PolicyEvent_RuleRemoved:
		return t.remove(c.RuleRemoved.GetIds())
	case *schemas.PolicyEvent_ModeSet:
		return t.setMode(c.ModeSet)
	case *schemas.PolicyEvent_RulesImported:
		return t.imported(c.RulesImported)
	case *schemas.PolicyEvent_RolledBack:
		return t.rollBack(c.RolledBack.GetToRevision())
	case *schemas.PolicyEvent_ProposalOpened:
		return t.open(c.ProposalOpened.GetProposal())
	case *schemas.PolicyEvent_ProposalApproved:
		return t.approve(e, c.ProposalApproved)
	case *schemas.PolicyEvent_ProposalRejected:
		return t.reject(c.ProposalRejected)
	case *schemas.PolicyEvent_ProposalSuperseded:
		return t.supersede(c.ProposalSuperseded)
	}
	return errors.New("an event of a kind that this version does not know")
}

func (t *txn) add(in []*schemas.Rule) error {
	rules, err := fromWireAll(in)
	if err != nil {
		return err
	}
	if len(rules) == 0 {
		return errors.New("no rule to add")
	}
	for _, r := range rules {
		if r.Origin == OriginFile {
			return fmt.Errorf("rule %s: a rule from a file is changed in its file alone", r)
		}
	}
	for _, r := range rules {
		t.put(r)
	}
	if len(t.changes) == 0 {
		return errors.New("the rules are there already")
	}
	return nil
}

// put adds an operator's rule, or replaces the one with the same text.
func (t *txn) put(r Rule) {
	r = t.state.names.hold(r)
	old, ok := t.book.operator[r.ID]
	if ok {
		t.state.names.release(old)
		if sameRule(old, r) {
			return
		}
	}
	t.undo.note(r.canonical(), old, ok)
	t.book.operator[r.ID] = r
	t.changed(r, ok)
}

func (t *txn) changed(r Rule, replaced bool) {
	op := "add"
	if replaced {
		op = "replace"
	}
	t.book.changed = t.revision
	t.changes = append(t.changes, Change{Policy: t.name, Op: op, Rule: r})
}

func (t *txn) drop(id string) {
	old := t.book.operator[id]
	t.undo.note(old.canonical(), old, true)
	delete(t.book.operator, id)
	t.state.names.release(old)
	t.book.changed = t.revision
	t.changes = append(t.changes, Change{Policy: t.name, Op: "remove", Rule: old})
}

func (t *txn) remove(ids []string) error {
	if len(ids) == 0 {
		return errors.New("no rule to remove")
	}
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	for _, id := range ids {
		if err := t.removable(id); err != nil {
			return err
		}
	}
	for _, id := range ids {
		t.drop(id)
	}
	return nil
}

func (t *txn) removable(id string) error {
	if _, ok := t.book.operator[id]; ok {
		return nil
	}
	for _, r := range t.book.file {
		if r.ID == id {
			return fmt.Errorf("rule %s is from %s: change it there", id, r.Source)
		}
	}
	return fmt.Errorf("policy %s has no rule %s", t.name, id)
}

func (t *txn) setMode(m *schemas.ModeSet) error {
	w := m.GetWorkload()
	if w == "" {
		return errors.New("the event names no workload")
	}
	if n := m.GetMode(); n < 0 || n > schemas.Mode_MODE_BLOCK {
		return fmt.Errorf("mode %d is unknown", n)
	}
	mode := Mode(m.GetMode())
	before, _ := t.state.Mode(w)
	if before.Mode == mode {
		return fmt.Errorf("the mode of %s is %s already", w, modeWord(mode))
	}
	t.undo.noteMode(w, t.book.modes[w].Mode)
	t.book.modes[w] = modeEntry{mode, t.revision}
	t.changes = append(t.changes, Change{Policy: t.name, Op: "mode", Workload: w, From: before.Mode, To: mode})
	return nil
}

func (t *txn) imported(m *schemas.RulesImported) error {
	rules, err := fromWireAll(m.GetRules())
	if err != nil {
		return err
	}
	for i := range rules {
		if m.GetFromFile() {
			rules[i].Origin = OriginFile
		} else if rules[i].Origin == OriginFile {
			rules[i].Origin = OriginOperator
		}
	}
	if m.GetFromFile() {
		t.replaceFile(rules, Import{m.GetFile(), m.GetSha256(), t.revision})
		return nil
	}
	t.replaceOperator(rules)
	return nil
}

func (t *txn) replaceFile(rules []Rule, from Import) {
	before := (&book{file: t.book.file}).byText()
	for i := range rules {
		rules[i] = t.state.names.hold(rules[i])
	}
	for _, r := range t.book.file {
		t.state.names.release(r)
	}
	t.book.file, t.book.imported = rules, from
	t.changes = diffRules(t.name, before, (&book{file: rules}).byText())
	if len(t.changes) > 0 {
		t.book.changed = t.revision
	}
}

// replaceOperator gives the book exactly these operators' rules.
func (t *txn) replaceOperator(rules []Rule) {
	keep := map[string]bool{}
	for _, r := range rules {
		keep[r.canonical()] = true
	}
	for _, id := range slices.Sorted(maps.Keys(t.book.operator)) {
		if !keep[t.book.operator[id].canonical()] {
			t.drop(id)
		}
	}
	for _, r := range rules {
		t.put(r)
	}
}
