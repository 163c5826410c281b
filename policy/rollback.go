package policy

import (
	"fmt"
	"maps"
	"slices"
)

// undo is what takes one event's changes by operators back.
type undo struct {
	Revision uint64
	// Rules had these values, by text; nil is none.
	Rules map[string]*Rule
	// Modes were these; ModeUnknown is no override by this policy.
	Modes map[string]Mode
}

func (u *undo) empty() bool { return len(u.Rules)+len(u.Modes) == 0 }

// note remembers the value before the first change of a rule in this event.
func (u *undo) note(text string, old Rule, was bool) {
	if u.Rules == nil {
		u.Rules = map[string]*Rule{}
	}
	if _, ok := u.Rules[text]; ok {
		return
	}
	u.Rules[text] = nil
	if was {
		u.Rules[text] = &old
	}
}

func (u *undo) noteMode(workload string, old Mode) {
	if u.Modes == nil {
		u.Modes = map[string]Mode{}
	}
	if _, ok := u.Modes[workload]; !ok {
		u.Modes[workload] = old
	}
}

// rollBack gives the policy the operators' rules and modes of a revision. It
// is a change like any other, so that it can be rolled back too.
func (t *txn) rollBack(to uint64) error {
	if to >= t.revision {
		return fmt.Errorf("revision %d is not in the past", to)
	}
	past := t.book.since(to)
	current := map[string]string{}
	for id, r := range t.book.operator {
		current[r.canonical()] = id
	}
	var restore []Rule
	for _, text := range slices.Sorted(maps.Keys(past.Rules)) {
		r := past.Rules[text]
		if r != nil {
			restore = append(restore, *r)
		} else if id, ok := current[text]; ok {
			t.drop(id)
		}
	}
	for _, r := range restore {
		t.put(r)
	}
	for _, w := range slices.Sorted(maps.Keys(past.Modes)) {
		t.restoreMode(w, past.Modes[w])
	}
	if t.undo.empty() {
		return fmt.Errorf("policy %s is as it was at revision %d", t.name, to)
	}
	return nil
}

func (t *txn) restoreMode(workload string, mode Mode) {
	own := t.book.modes[workload].Mode
	if own == mode {
		return
	}
	before, _ := t.state.Mode(workload)
	t.undo.noteMode(workload, own)
	t.book.modes[workload] = modeEntry{mode, t.revision}
	if before.Mode != mode {
		t.changes = append(t.changes, Change{Policy: t.name, Op: "mode", Workload: workload, From: before.Mode, To: mode})
	}
}

// since joins what takes back all events after a revision: for each rule and
// mode the value before the first of them.
func (b *book) since(revision uint64) undo {
	out := undo{Rules: map[string]*Rule{}, Modes: map[string]Mode{}}
	for _, u := range slices.Backward(b.undo) {
		if u.Revision <= revision {
			break
		}
		maps.Copy(out.Rules, u.Rules)
		maps.Copy(out.Modes, u.Modes)
	}
	return out
}
