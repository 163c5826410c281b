package enforcer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"sync"
	"testing"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/policy"
)

// fakeKernel stands in for the gate, which needs root: it holds what was put
// into it. The real one is under test in bpf and e2e.
type fakeKernel struct {
	mu         sync.Mutex
	containers map[string]uint32
	cgroups    map[uint64]uint32
	states     map[uint32]bpf.State
	policies   map[uint32]*policy.Table
	counters   map[uint32]bpf.Counters
	overflow   map[uint32]bpf.Counters
	names      map[uint32]bpf.Names
	full       bool
}

func newFakeKernel() *fakeKernel {
	return &fakeKernel{
		containers: map[string]uint32{}, cgroups: map[uint64]uint32{},
		states: map[uint32]bpf.State{}, policies: map[uint32]*policy.Table{},
		counters: map[uint32]bpf.Counters{}, overflow: map[uint32]bpf.Counters{}, names: map[uint32]bpf.Names{},
	}
}

func (k *fakeKernel) PutContainer(id string, index uint32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.containers[id] = index
	return nil
}

func (k *fakeKernel) RemoveContainer(id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.containers, id)
	return nil
}

func (k *fakeKernel) Containers() (map[string]uint32, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.containers), nil
}

func (k *fakeKernel) PutCgroup(id uint64, index uint32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cgroups[id] = index
	return nil
}

func (k *fakeKernel) Cgroups() (map[uint64]uint32, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.cgroups), nil
}

func (k *fakeKernel) SetState(index uint32, s bpf.State) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.states[index] = s
	return nil
}

func (k *fakeKernel) State(index uint32) (bpf.State, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.states[index], nil
}

var errFake = errors.New("the table is full")

func (k *fakeKernel) SetPolicyKeeping(slot uint32, t *policy.Table, revision uint64) error {
	return k.SetPolicy(slot, t, revision)
}

func (k *fakeKernel) SetPolicy(slot uint32, t *policy.Table, _ uint64) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.full {
		return errFake
	}
	k.policies[slot] = t
	return nil
}

func (k *fakeKernel) FreePolicy(slot uint32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.policies, slot)
	return nil
}

func (k *fakeKernel) Names(index uint32) (bpf.Names, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.names[index]
	k.names[index] = bpf.Names{Questions: n.Questions, Octets: n.Octets}
	return n, nil
}

func (k *fakeKernel) Counters(index uint32) (bpf.Counters, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.counters[index], nil
}

func (k *fakeKernel) Overflow(index uint32) (bpf.Counters, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.overflow[index], nil
}

// table is what judges a container now.
func (k *fakeKernel) table(id string) (bpf.State, *policy.Table) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.states[k.containers[id]]
	return s, k.policies[s.Slot]
}

// events collects what is reported.
type recorder struct {
	mu   sync.Mutex
	kind map[string]int
}

func (e *recorder) add(h hostEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.kind[h.Kind]++
}

func (e *recorder) count(kind string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.kind[kind]
}

func newTestRegistry(t *testing.T, k *fakeKernel) (*registry, *recorder) {
	t.Helper()
	ev := &recorder{kind: map[string]int{}}
	r := newRegistry(k, registryOptions{
		DefaultMode: policy.ModeAllow, MaxContainers: 64, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Report: ev.add,
	})
	if err := r.setUnknown(policy.ModeBlock); err != nil {
		t.Fatal(err)
	}
	return r, ev
}

// fakeEngine stands in for Docker where a test needs it to misbehave.
type fakeEngine struct {
	mu      sync.Mutex
	list    []description
	fail    error
	changes chan change
	failed  chan error
	watches int
	// busy, if set, is what an inspection waits for.
	busy func()
	// images are the labels of images, by name.
	images map[string]map[string]string
}

func newFakeEngine() *fakeEngine {
	return &fakeEngine{changes: make(chan change, 1024), failed: make(chan error, 1)}
}

func (f *fakeEngine) Watch(context.Context) (<-chan change, <-chan error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watches++
	return f.changes, f.failed
}

func (f *fakeEngine) List(context.Context) ([]description, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]description(nil), f.list...), f.fail
}

func (f *fakeEngine) Inspect(_ context.Context, id string) (description, error) {
	if f.busy != nil {
		f.busy()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.list {
		if d.ID == id {
			d.Detail = &detail{}
			return d, nil
		}
	}
	return description{}, errors.New("no such container")
}

func (f *fakeEngine) ImageLabels(_ context.Context, image string) (map[string]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	labels, ok := f.images[image]
	if !ok {
		return nil, errors.New("no such image")
	}
	return labels, nil
}

func (f *fakeEngine) Close() error { return nil }

func (f *fakeEngine) set(list []description, fail error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list, f.fail = list, fail
}

func eventually(t testing.TB, what string, look func() bool) {
	t.Helper()
	testutil.Eventually(t, what, func() error {
		if look() {
			return nil
		}
		return errors.New("not yet")
	})
}
