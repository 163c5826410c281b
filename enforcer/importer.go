package enforcer

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// lookEvery is how often the folder is read when the kernel tells of no change.
const lookEvery = 5 * time.Second

// watchFolder imports changed allow-lists into the policy log. A file with an
// error changes nothing: the last good import stays.
func (e *Enforcer) watchFolder(ctx context.Context, log *eventlog.Log) error {
	if e.cfg.Policies == "" {
		<-ctx.Done()
		return ctx.Err()
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer notify.Close()
	im := importer{Enforcer: e, eventlog: log, told: map[string]string{}}
	for {
		im.look(ctx, notify)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-notify.Events:
			im.settle(ctx, notify)
		case err := <-notify.Errors:
			// Looking from time to time makes up for what it missed.
			e.log.Debug("changes of the folder were missed", "err", err)
		case <-e.folded:
		case <-time.After(lookEvery):
		}
	}
}

// importer remembers what it has told, so that an error is told once.
type importer struct {
	*Enforcer
	eventlog *eventlog.Log
	told     map[string]string
}

// settle waits until a writer is done: an editor makes several changes.
func (im *importer) settle(ctx context.Context, notify *fsnotify.Watcher) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-notify.Events:
		case <-time.After(50 * time.Millisecond):
			return
		}
	}
}

// look compares every file with what the log last imported.
func (im *importer) look(ctx context.Context, notify *fsnotify.Watcher) {
	if im.ledger.lost.Load() {
		return
	}
	watchFolders(notify, im.cfg.Policies)
	files, err := readFolder(im.cfg.Policies)
	im.tell("", im.cfg.Policies, err)
	if err != nil {
		return
	}
	for _, f := range files {
		im.tell(f.Policy, f.Path, f.Err)
	}
	for _, f := range im.pending(files) {
		im.tell(f.Policy, f.Path+" import", im.append(ctx, f))
	}
}

// pending are the files that differ from what the log last imported, and those
// that it imported from here and that are gone.
func (im *importer) pending(files []ruleFile) []ruleFile {
	var out []ruleFile
	im.ledger.read(func(state *policy.State) {
		present := map[string]bool{}
		for _, f := range files {
			present[f.Policy] = true
			if f.Err == nil && state.Imported(f.Policy).SHA256 != f.SHA256 {
				f.last = state.LastSequence(f.Policy)
				out = append(out, f)
			}
		}
		for _, name := range state.Policies() {
			if was := state.Imported(name); was.SHA256 != "" && !present[name] && im.ours(was.File) {
				out = append(out, ruleFile{Policy: name, Path: was.File, last: state.LastSequence(name)})
			}
		}
	})
	return out
}

// tell reports an error of a file when it is new.
func (im *importer) tell(name, path string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if im.told[path] == text {
		return
	}
	im.told[path] = text
	if err != nil {
		im.report.add(hostEvent{Kind: "policy.invalid", Severity: "error", Policy: name, Workload: name, Err: text, Message: "an allow-list is not imported, the last good one stays"})
	}
}

// append imports one file. Losing against another writer is no error: the next
// look compares anew.
func (im *importer) append(ctx context.Context, f ruleFile) error {
	ev := &schemas.PolicyEvent{
		TimeNs: time.Now().UnixNano(), Actor: "host " + im.cfg.Host, Policy: f.Policy, BasedOn: f.last,
		Reason: "the file changed",
		Change: &schemas.PolicyEvent_RulesImported{RulesImported: &schemas.RulesImported{
			Rules: policy.WireRules(f.Rules), File: f.Path, Sha256: f.SHA256, FromFile: true,
		}},
	}
	if f.SHA256 == "" {
		ev.Reason = "the file was removed"
	}
	_, err := im.eventlog.AppendPolicy(ctx, ev, f.last)
	if errors.Is(err, eventlog.ErrStale) {
		return nil
	}
	return err
}

// ours tells whether a file of an import belongs to this host's folder: another
// host's files are not removed here.
func (im *importer) ours(file string) bool {
	rel, err := filepath.Rel(im.cfg.Policies, file)
	return err == nil && filepath.IsLocal(rel)
}
