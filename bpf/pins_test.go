package bpf

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/egresswarden/egresswarden/policy"
)

// blockAll makes this process a container that may send nothing.
func (f *fixture) blockAll(t testing.TB) {
	t.Helper()
	f.manage(t, 1, State{Mode: policy.ModeBlock, HostNetwork: true})
	if o := flood(t, 1, 1, 1); o.refused != 1 {
		t.Fatalf("the gate is not at work: %+v", o)
	}
}

func TestAPinnedGateWorksOnWithoutItsProcess(t *testing.T) {
	f := newFixture(t, nil)
	f.blockAll(t)
	if !f.Attached() {
		t.Error("attached, but not reported so")
	}
	before := f.Instance()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if o := flood(t, 1, 10, 1); o.refused != 10 {
		t.Errorf("after close: %+v", o)
	}
	f.Gate = openGate(t, f.o)
	c, err := f.Counters(1)
	if err != nil || c.Deny != 11 {
		t.Errorf("counters after reopening: %+v, %v; want 11 denials", c, err)
	}
	if f.Instance() != before || !f.Attached() {
		t.Errorf("reopened: instance %s, was %s; attached %v", f.Instance(), before, f.Attached())
	}
	all, err := f.Cgroups()
	if err != nil || len(all) == 0 {
		t.Errorf("cgroups after reopening: %v, %v", all, err)
	}
	l := newLedger()
	l.settle(t, f.Gate)
	l.check(t, f.Gate, 1)
}

func TestOtherSizesDoNotReplaceAGateAtWork(t *testing.T) {
	f := newFixture(t, nil)
	f.blockAll(t)
	o := f.o
	o.RingBytes, o.FlowEntries, o.MaxContainers = 8192, 128, 16
	g := openGate(t, o)
	if g.Ring().Size() != uint64(f.o.RingBytes) {
		t.Errorf("ring of %d bytes, want the pinned one of %d", g.Ring().Size(), f.o.RingBytes)
	}
	if c, err := g.Counters(1); err != nil || c.Deny != 1 {
		t.Errorf("counters: %+v, %v", c, err)
	}
}

// spoil puts a map of another kind in the place of a pinned one.
func spoil(t testing.TB, dir, name string) {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 64, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	pin := filepath.Join(dir, name)
	if err := os.Remove(pin); err != nil {
		t.Fatal(err)
	}
	if err := m.Pin(pin); err != nil {
		t.Fatal(err)
	}
}

func TestPinsThatDoNotFitAreRefusedWhileTheyEnforce(t *testing.T) {
	for name, damage := range map[string]func(t testing.TB, dir string){
		"a map of another kind": func(t testing.TB, dir string) { spoil(t, dir, "states") },
		"a map is missing": func(t testing.TB, dir string) {
			if err := os.Remove(filepath.Join(dir, "flows_a")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			f.blockAll(t)
			damage(t, f.dir)
			g, err := Open(f.o)
			if !errors.Is(err, ErrLayout) {
				t.Errorf("open: %v, want ErrLayout", err)
			}
			if err == nil {
				_ = g.Close()
			}
			if o := flood(t, 1, 10, 1); o.refused != 10 {
				t.Errorf("after the refusal: %+v", o)
			}
		})
	}
}

func TestAStartThatWasCutOffIsRepeated(t *testing.T) {
	f := newFixture(t, nil)
	if _, err := Detach(f.o.PinDir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(f.dir, linksDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(f.dir+aside, 0o700); err != nil {
		t.Fatal(err)
	}
	g := openGate(t, f.o)
	if g.Instance() == f.Instance() {
		t.Error("new maps have the old instance")
	}
	if err := g.Attach(); err != nil {
		t.Error(err)
	}
}

func TestAnUpdateInPlaceLetsNothingThrough(t *testing.T) {
	f := newFixture(t, nil)
	f.blockAll(t)
	var (
		passed  atomic.Uint64
		refused atomic.Uint64
		done    = make(chan struct{})
		wg      sync.WaitGroup
	)
	for i := range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				o, err := floodFrom(i, 2, 1000, 1)
				if err != nil {
					t.Error(err)
				}
				passed.Add(o.passed)
				refused.Add(o.refused)
			}
		})
	}
	for range scaled(10) {
		g, err := Open(f.o)
		if err != nil {
			t.Error(err)
			break
		}
		for range 10 {
			if err := g.Attach(); err != nil {
				t.Error(err)
			}
		}
		_ = g.Close()
	}
	close(done)
	wg.Wait()
	if passed.Load() != 0 || refused.Load() == 0 {
		t.Errorf("during updates %d passed, %d were refused", passed.Load(), refused.Load())
	}
	id := newContainerID()
	f.putContainer(t, id, 1)
	dir, _ := mkdir(t, f.cgroup, id)
	if sendsIn(t, dir) {
		t.Error("after updates a birth is missed")
	}
}

func TestAnotherLayoutIsReplacedWithoutAGap(t *testing.T) {
	f := newFixture(t, nil)
	f.blockAll(t)
	old := layoutDir(f.o.PinDir, Layout+1)
	if err := os.Rename(f.dir, old); err != nil {
		t.Fatal(err)
	}
	g := openGate(t, f.o)
	if o := flood(t, 1, 10, 1); o.refused != 10 {
		t.Errorf("the old layout does not enforce while the new one is filled: %+v", o)
	}
	all, err := f.Cgroups()
	if err != nil {
		t.Fatal(err)
	}
	for id, index := range all {
		if err := g.PutCgroup(id, index); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.SetState(1, State{Mode: policy.ModeBlock, HostNetwork: true}); err != nil {
		t.Fatal(err)
	}
	if err := g.Attach(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old layout is still pinned: %v", err)
	}
	if o := flood(t, 1, 10, 1); o.refused != 10 {
		t.Errorf("the new layout does not enforce: %+v", o)
	}
}

func TestDetachTakesEverythingOff(t *testing.T) {
	f := newFixture(t, nil)
	f.blockAll(t)
	removed, err := Detach(f.o.PinDir)
	if err != nil {
		t.Fatal(err)
	}
	if len(removed) < 8+len(mapNames(t)) {
		t.Errorf("removed only %v", removed)
	}
	if o := flood(t, 1, 10, 1); o.passed != 10 {
		t.Errorf("after detach: %+v", o)
	}
	if _, err := os.Stat(f.o.PinDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pin directory is still there: %v", err)
	}
	if f.Attached() {
		t.Error("detached, but reported attached")
	}
	again, err := Detach(f.o.PinDir)
	if err != nil || len(again) != 0 {
		t.Errorf("detached twice: %v, %v", again, err)
	}
}

func mapNames(t testing.TB) []string {
	t.Helper()
	spec, err := loadGate()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range spec.Maps {
		if name != ".bss" {
			names = append(names, name)
		}
	}
	return names
}

func TestAGateAtACgroupThatIsGoneIsAttachedAnew(t *testing.T) {
	f := newFixture(t, nil)
	o := f.o
	o.CgroupRoot = newCgroup(t, f.cgroup)
	g := openGate(t, o)
	if err := g.Attach(); err != nil { // the pinned links move to the other cgroup
		t.Fatal(err)
	}
	if !g.Attached() || f.Attached() {
		t.Errorf("attached at the new cgroup: %v, at the old one: %v", g.Attached(), f.Attached())
	}
	if err := os.Remove(o.CgroupRoot); err != nil {
		t.Fatal(err)
	}
	if g.Attached() {
		t.Error("the cgroup is gone, but the gate is reported attached")
	}
	if err := g.Attach(); !errors.Is(err, ErrCgroup) {
		t.Errorf("attach to a cgroup that is gone: %v, want ErrCgroup", err)
	}
	if err := f.Attach(); err != nil || !f.Attached() {
		t.Errorf("attached anew: %v, %v", f.Attached(), err)
	}
}

func TestOneProcessSetsPolicies(t *testing.T) {
	f := newFixture(t, nil)
	f.putPolicy(t, 1, table("127.0.0.0/8"), 1)
	second := openGate(t, f.o)
	lock, err := os.Open(filepath.Join(f.dir, linksDir))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := flockWithin(lock, 0); !errors.Is(err, ErrBusy) {
		t.Errorf("while the first has it in hand: %v, want ErrBusy", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.SetPolicy(2, table("127.0.0.0/8"), 2); err != nil {
		t.Errorf("after the first is closed: %v", err)
	}
	if err := second.SetState(1, State{Mode: policy.ModeBlock, Slot: 1, HostNetwork: true}); err != nil {
		t.Fatal(err)
	}
	d, err := second.Judge(1, netip.MustParseAddr("127.0.0.1"), policy.ProtoTCP, 1)
	if want := (Decision{policy.VerdictAllow, 100, 1}); err != nil || d != want {
		t.Errorf("the first one's policy: %+v, %v; want %+v", d, err, want)
	}
}
