package enforcer

import (
	"context"
	"errors"
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
	im := newImporter(e, log)
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

// settleMost bounds the wait for a writer that never is.
const settleMost = 2 * time.Second

// settle waits until a writer is done: an editor makes several changes.
func (im *importer) settle(ctx context.Context, notify *fsnotify.Watcher) {
	end := time.After(settleMost)
	for {
		select {
		case <-ctx.Done():
			return
		case <-end:
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
	im.lookAt(ctx, time.Now())
}

func (im *importer) lookAt(ctx context.Context, now time.Time) {
	files, err := im.read()
	im.tell("", im.cfg.Policies, err)
	if err != nil {
		im.startOver()
		return
	}
	for _, f := range files {
		im.tell(f.Policy, f.Path, f.Err)
	}
	todo := append(im.changed(files), im.removed(files, now)...)
	if len(todo) == 0 {
		im.startOver()
	}
	for _, f := range todo {
		err := im.append(ctx, f)
		if err == nil {
			im.seen[f.Policy] = f.SHA256
		}
		im.tell(f.Policy, f.Path+" import", err)
	}
}

// tell reports an error of a file when it is new.
func (im *importer) tell(name, path string, err error) {
	if im.problems.set("allow-list "+path, err) && err != nil {
		im.report.add(hostEvent{Kind: schemas.KindPolicyInvalid, Severity: "error", Policy: name, Workload: name, Err: err.Error(), Message: "an allow-list is not imported, the last good one stays"})
	}
}

// append imports one file. Losing against another writer is no error: the next
// look compares anew.
func (im *importer) append(ctx context.Context, f ruleFile) error {
	ev := &schemas.PolicyEvent{
		TimeNs: time.Now().UnixNano(), Actor: "host " + im.cfg.Host, Policy: f.Policy, BasedOn: f.last,
		Reason: "the file changed",
		Change: &schemas.PolicyEvent_RulesImported{RulesImported: &schemas.RulesImported{
			Rules: policy.WireRules(f.Rules), File: im.cfg.Host + ":" + f.Path, Sha256: f.SHA256, FromFile: true,
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
