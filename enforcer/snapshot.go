package enforcer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// snapshotDelay gathers the changes of a burst into one write.
const snapshotDelay = 200 * time.Millisecond

// snapshot is the last good state on disk: enough to enforce after a power
// loss, before Docker and the event log answer.
type snapshot struct {
	Version    int                      `json:"version"`
	Containers []Container              `json:"containers"`
	Retired    []Container              `json:"retired,omitempty"`
	Rules      map[string][]policy.Rule `json:"rules"`
	Modes      map[string]policy.Mode   `json:"modes,omitempty"`
	Revision   map[string]uint64        `json:"revision,omitempty"`
	// Fold is the revision of the policy log that Rules and Modes stand at.
	Fold uint64 `json:"fold"`
	// Mark tells the event at Fold from that of another log.
	Mark string `json:"mark,omitempty"`
	// Learning is since when each workload learns.
	Learning map[string]time.Time `json:"learning,omitempty"`
}

const snapshotVersion = 1

// loadSnapshot reads the last good state; none yet is an empty one.
func loadSnapshot(path string) (snapshot, error) {
	var s snapshot
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read snapshot: %w", err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return snapshot{}, fmt.Errorf("read snapshot %s: %w", path, err)
	}
	if s.Version != snapshotVersion {
		return snapshot{}, fmt.Errorf("snapshot %s has version %d, this build reads %d", path, s.Version, snapshotVersion)
	}
	return s, nil
}

// write replaces the snapshot as a whole: a crash leaves the old or the new.
func (s snapshot) write(path string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "snapshot-*")
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

// restore puts a snapshot into the gate. An index that the pinned gate gives
// to another container stays with that one.
func (r *registry) restore(s snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.desired = policySet{Rules: s.Rules, Modes: s.Modes, Revision: s.Revision}
	r.learning = s.Learning
	for _, c := range s.Containers {
		if err := r.restoreContainer(c); err != nil {
			r.Log.Error("container of the snapshot not in the gate", "container", c.Name, "err", err)
		}
	}
	for _, c := range s.Retired {
		if _, used := r.byIndex[c.Index]; !used {
			r.byIndex[c.Index], r.retired[c.Index] = &c, retirement{since: r.Now()}
		}
	}
}

func (r *registry) restoreContainer(c Container) error {
	held, ok := r.containers[c.ID]
	same := ok && held.Index == c.Index
	if ok {
		c.Index, c.Mode, c.adopted = held.Index, held.Mode, true
	} else if _, used := r.byIndex[c.Index]; used || c.Index == 0 {
		index, err := r.freeIndex()
		if err != nil {
			return err
		}
		c.Index = index
	}
	if !same {
		c.Base = r.base(c.Index)
	}
	c.Running = false
	r.containers[c.ID], r.byIndex[c.Index] = &c, &c
	if c.adopted {
		return nil
	}
	return r.apply(&c)
}

// snapshot is what is to be saved.
func (r *registry) snapshot() snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := snapshot{Version: snapshotVersion, Rules: r.desired.Rules, Modes: r.desired.Modes, Revision: r.desired.Revision, Learning: r.learning}
	for _, c := range r.containers {
		s.Containers = append(s.Containers, *c)
	}
	for index := range r.retired {
		s.Retired = append(s.Retired, *r.byIndex[index])
	}
	return s
}

func (e *Enforcer) saveSnapshot() error {
	stand := e.ledger.standing() // before: the rules may be newer, never older
	s := e.registry.snapshot()
	s.Fold, s.Mark = stand.revision, stand.mark
	return s.write(e.cfg.snapshotPath())
}

// keepSnapshot saves after every change.
func (e *Enforcer) keepSnapshot(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.registry.changed:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(snapshotDelay):
		}
		err := e.saveSnapshot()
		if e.problems.set("snapshot", err) && err != nil {
			e.report.add(warn(schemas.KindSnapshotFailed, "the last good state is not saved, after a power loss an older one is enforced", err))
		}
	}
}

// expire recompiles when a timed rule ends, with or without the event log.
func (e *Enforcer) expire(ctx context.Context) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			if !e.registry.expired(now) {
				continue
			}
			changed, err := e.registry.refresh(now)
			e.cutExpired(changed)
			e.applied(changed, "a timed rule ended", err)
		}
	}
}

// expired tells whether a rule in force should not be any more.
func (r *registry) expired(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.slots.nextExpiry()
	return !next.IsZero() && !next.After(now)
}
