package bpf

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// readyTables is how many empty tables are kept at hand, so that a policy goes
// live without waiting for the kernel.
const readyTables = 4

// burstTables is how many are made ready at once when there is none left, as
// when all policies of a host are set at its start.
const burstTables = 32

// ownWait is how long a process that ended may be taken for alive.
const ownWait = 10 * time.Second

// tables gives out table ids. A table is in force (a slot names it), ready (its
// tries are empty and nobody can see them), or used up. One that is used up may
// still be read by a running program: it is renewed only after a grace period.
type tables struct {
	outer  [3]*ebpf.Map // v4, v6, ports
	inner  [3]*ebpf.MapSpec
	shared *shared
	log    *slog.Logger

	dir      string     // its lock says which process gives out tables
	setting  sync.Mutex // one SetPolicy or FreePolicy at a time; guards owner
	owner    *os.File
	mu       sync.Mutex // guards ready and used
	ready    []uint32
	used     []uint32
	renewing sync.WaitGroup
}

func newTables(g *Gate) (*tables, error) {
	o := &g.objects
	t := &tables{
		outer:  [3]*ebpf.Map{o.TablesV4, o.TablesV6, o.TablesPorts},
		shared: g.shared,
		log:    g.log,
		dir:    filepath.Join(g.dir, linksDir),
	}
	spec, err := loadGate()
	if err != nil {
		return nil, err
	}
	for i, name := range []string{"tables_v4", "tables_v6", "tables_ports"} {
		t.inner[i] = spec.Maps[name].InnerMap
		t.inner[i].MaxEntries = g.o.TablePrefixes
	}
	return t, nil
}

// own makes this process the one that gives out tables, and finds those that
// are in force. One that just ended may hold the lock for a moment yet.
func (t *tables) own() error {
	if t.owner != nil {
		return nil
	}
	f, err := os.Open(t.dir)
	if err != nil {
		return err
	}
	if err := flockWithin(f, ownWait); err != nil {
		return errors.Join(err, f.Close())
	}
	t.owner = f
	inForce := make(map[uint32]bool)
	for slot := range uint32(len(t.shared.policies) / 2) {
		inForce[atomic.LoadUint32(t.shared.policy(slot))] = true
	}
	// Highest first, as they are taken from the end; table 0 stays empty.
	for id := uint32(len(t.shared.headers)) - 1; id > 0; id-- {
		if !inForce[id] {
			t.used = append(t.used, id)
		}
	}
	return nil
}

// take returns a ready table, renewing used ones if there is none.
func (t *tables) take() (uint32, error) {
	for {
		if id, ok := t.pop(); ok {
			return id, nil
		}
		t.renewing.Wait()
		if id, ok := t.pop(); ok {
			return id, nil
		}
		if err := t.renew(burstTables); err != nil {
			return 0, err
		}
	}
}

func (t *tables) pop() (uint32, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ready) == 0 {
		return 0, false
	}
	id := t.ready[len(t.ready)-1]
	t.ready = t.ready[:len(t.ready)-1]
	return id, true
}

// retire gives back a table that no slot names any more, and sees to it that
// enough are ready.
func (t *tables) retire(id uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id != 0 {
		t.used = append(t.used, id)
	}
	if len(t.ready) >= readyTables {
		return
	}
	t.renewing.Go(func() {
		if err := t.renew(readyTables); err != nil {
			t.log.Warn("no spare policy table yet", "err", err)
		}
	})
}

// renew makes used tables ready, until that many are.
func (t *tables) renew(want int) error {
	t.mu.Lock()
	n := min(max(want-len(t.ready), 0), len(t.used))
	ids := append([]uint32(nil), t.used[len(t.used)-n:]...)
	t.used = t.used[:len(t.used)-n]
	t.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	// A program may have read the table's id just before the slot changed: it
	// must have ended before the tries under it change.
	err := t.grace()
	if err == nil {
		err = t.empty(ids)
	}
	t.giveBack(ids, err == nil)
	return err
}

// empty puts new tries in place of whatever the tables have. The waits of the
// three system calls for the kernel run side by side.
func (t *tables) empty(ids []uint32) error {
	var errs [3]error
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = putEmpty(t.outer[i], t.inner[i], ids) })
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

func (t *tables) giveBack(ids []uint32, ready bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ready {
		t.ready = append(t.ready, ids...)
	} else {
		t.used = append(t.used, ids...)
	}
}

func putEmpty(outer *ebpf.Map, inner *ebpf.MapSpec, ids []uint32) error {
	fds := make([]uint32, len(ids))
	for i := range ids {
		m, err := ebpf.NewMap(inner)
		if err != nil {
			return fmt.Errorf("make table %d: %w", ids[i], err)
		}
		defer m.Close()
		fds[i] = uint32(m.FD())
	}
	// One wait for all, where one by one each would.
	if _, err := outer.BatchUpdate(ids, fds, nil); err != nil {
		return fmt.Errorf("put tables: %w", err)
	}
	return nil
}

// grace returns when every program that ran when it was called has ended: the
// kernel waits for that in each update of a map of maps, before it returns
// (maybe_wait_bpf_programs, which is synchronize_rcu). Programs run in one RCU
// read section from the first instruction to the last.
func (t *tables) grace() error {
	m, err := ebpf.NewMap(t.inner[0])
	if err != nil {
		return fmt.Errorf("wait for running programs: %w", err)
	}
	defer m.Close()
	if err := t.outer[0].Put(uint32(0), m); err != nil {
		return fmt.Errorf("wait for running programs: %w", err)
	}
	return nil
}

func (t *tables) fill(id uint32, e *encoded) error {
	return errors.Join(
		fillTrie(t.outer[0], id, e.v4, e.v4To),
		fillTrie(t.outer[1], id, e.v6, e.v6To),
		fillTrie(t.outer[2], id, e.ports, e.portTo),
	)
}

func fillTrie[K, V any](outer *ebpf.Map, id uint32, keys []K, values []V) error {
	if len(keys) == 0 {
		return nil
	}
	var trie *ebpf.Map
	if err := outer.Lookup(id, &trie); err != nil {
		return fmt.Errorf("open table %d: %w", id, err)
	}
	defer trie.Close()
	// The kernel's allocator can be short for a moment under many updates.
	for try := 0; len(keys) > 0; try++ {
		n, err := trie.BatchUpdate(keys, values, nil)
		keys, values = keys[n:], values[n:]
		if err != nil && (!errors.Is(err, unix.ENOMEM) || try == 1000) {
			return wrap("fill table", id, err)
		}
	}
	return nil
}

// close waits for what runs in the background.
func (t *tables) close() error {
	t.renewing.Wait()
	t.setting.Lock()
	defer t.setting.Unlock()
	if t.owner == nil {
		return nil
	}
	return t.owner.Close()
}
