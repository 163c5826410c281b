package enforcer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/policy"
)

// goneFor is how long a file must be missing before its rules are removed: an
// editor may move it away for a moment.
const goneFor = 2 * time.Second

// importer compares the folder with the log. What it remembers keeps two hosts
// with different files for one policy from overwriting each other for ever.
type importer struct {
	*Enforcer
	eventlog *eventlog.Log
	// seen is the content of each policy's file that was dealt with.
	seen map[string]string
	// gone is since when an imported file is missing.
	gone map[string]time.Time
}

func newImporter(e *Enforcer, log *eventlog.Log) *importer {
	return &importer{Enforcer: e, eventlog: log, seen: map[string]string{}, gone: map[string]time.Time{}}
}

// changed are the files that are to be imported: those that differ from what
// the log last imported. What another host imported gives way to a file that
// is changed here, not to one that was different all along.
func (im *importer) changed(files []ruleFile) []ruleFile {
	var todo, others []ruleFile
	im.ledger.read(func(state *policy.State) {
		for _, f := range files {
			was := state.Imported(f.Policy)
			seen, known := im.seen[f.Policy]
			switch {
			case f.Err != nil:
			case was.SHA256 == f.SHA256:
				im.seen[f.Policy] = f.SHA256
				im.tell(f.Policy, f.Path+" import", nil)
			case was.SHA256 != "" && im.path(was) == "" && (!known || seen == f.SHA256):
				im.seen[f.Policy] = f.SHA256
				f.Err = fmt.Errorf("%s: the policy was imported from %s with other rules, which are in force; change this file to import it", f.Path, was.File)
				others = append(others, f)
			default:
				f.last = state.LastSequence(f.Policy)
				todo = append(todo, f)
			}
		}
	})
	for _, f := range others {
		im.tell(f.Policy, f.Path+" import", f.Err)
	}
	return todo
}

// removed are the policies that were imported from here and have no file any
// more.
func (im *importer) removed(files []ruleFile, now time.Time) []ruleFile {
	present := map[string]bool{}
	for _, f := range files {
		present[f.Policy] = true
		delete(im.gone, f.Policy)
	}
	var out []ruleFile
	im.ledger.read(func(state *policy.State) {
		for _, name := range state.Policies() {
			was := state.Imported(name)
			if was.SHA256 == "" || present[name] || im.path(was) == "" {
				delete(im.gone, name)
				continue
			}
			if _, ok := im.gone[name]; !ok {
				im.gone[name] = now
			}
			if now.Sub(im.gone[name]) >= goneFor {
				out = append(out, ruleFile{Policy: name, Path: im.path(was), last: state.LastSequence(name)})
			}
		}
	})
	return out
}

// path is the file of an import that was made from this host's folder, and
// empty for any other.
func (im *importer) path(was policy.Import) string {
	file, ok := strings.CutPrefix(was.File, im.cfg.Host+":")
	if !ok {
		return ""
	}
	if rel, err := filepath.Rel(im.cfg.Policies, file); err != nil || !filepath.IsLocal(rel) {
		return ""
	}
	return file
}

// read reads the folder. One that is missing takes no rule away: what was
// imported from it stays, and that is an error.
func (im *importer) read() ([]ruleFile, error) {
	files, err := readFolder(im.cfg.Policies)
	if err != nil {
		return nil, err
	}
	_, err = os.Stat(im.cfg.Policies)
	if err != nil && im.imported() {
		return nil, fmt.Errorf("the folder of allow-lists is gone, their rules stay: %w", err)
	}
	return files, nil
}

// imported tells whether the log has rules from this folder.
func (im *importer) imported() (any bool) {
	im.ledger.read(func(state *policy.State) {
		for _, name := range state.Policies() {
			was := state.Imported(name)
			any = any || was.SHA256 != "" && im.path(was) != ""
		}
	})
	return any
}
