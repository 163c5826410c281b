package bpf

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// shared is the memory of the array maps that user space writes while programs
// read them. A system call would copy byte by byte; through the mapping a value
// of up to eight bytes changes in one store.
type shared struct {
	settingsMem, statesMem, policiesMem, headersMem, strictMem, namesMem []byte
	states                                                               []uint64
	policies                                                             []uint32
	headers                                                              []gateHeader
	// strict is by index the generation of the last change that kept nothing;
	// changing guards it, and the raising of the generation.
	strict   []uint64
	changing sync.Mutex
	names    []gateAsked
}

func mapShared(m *gateMaps) (*shared, error) {
	s := &shared{}
	for _, f := range []struct {
		to   *[]byte
		m    *ebpf.Map
		name string
	}{
		{&s.settingsMem, m.Settings, "settings"},
		{&s.statesMem, m.States, "states"},
		{&s.policiesMem, m.Policies, "policies"},
		{&s.headersMem, m.Headers, "headers"},
		{&s.strictMem, m.Strict, "strict"},
		{&s.namesMem, m.Names, "names"},
	} {
		mem, err := mapArray(f.m)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("map memory of %s: %w", f.name, err), s.close())
		}
		*f.to = mem
	}
	// The kernel rounds an element up to eight bytes.
	s.states = unsafe.Slice((*uint64)(unsafe.Pointer(&s.statesMem[0])), m.States.MaxEntries())
	s.policies = unsafe.Slice((*uint32)(unsafe.Pointer(&s.policiesMem[0])), 2*m.Policies.MaxEntries())
	s.headers = unsafe.Slice((*gateHeader)(unsafe.Pointer(&s.headersMem[0])), m.Headers.MaxEntries())
	s.strict = unsafe.Slice((*uint64)(unsafe.Pointer(&s.strictMem[0])), m.Strict.MaxEntries())
	s.names = unsafe.Slice((*gateAsked)(unsafe.Pointer(&s.namesMem[0])), m.Names.MaxEntries())
	return s, nil
}

func mapArray(m *ebpf.Map) ([]byte, error) {
	element := (int(m.ValueSize()) + 7) &^ 7
	page := os.Getpagesize()
	size := (element*int(m.MaxEntries()) + page - 1) / page * page
	return unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func (s *shared) settings() *gateSetting {
	return (*gateSetting)(unsafe.Pointer(&s.settingsMem[0]))
}

// changed raises the generation, when a change is in force: every socket is looked
// at anew. Those of the containers that ends tells of are judged anew too; others
// go on as they were.
func (s *shared) changed(ends func(index uint32) bool) {
	s.changing.Lock()
	defer s.changing.Unlock()
	next := atomic.LoadUint64(&s.settings().Generation) + 1
	for i := range s.strict {
		if ends(uint32(i)) {
			atomic.StoreUint64(&s.strict[i], next)
		}
	}
	atomic.StoreUint64(&s.settings().Generation, next)
}

func only(index uint32) func(uint32) bool { return func(i uint32) bool { return i == index } }

func none(uint32) bool { return false }

// using tells which containers live under the policy of a slot.
func (s *shared) using(slot uint32) func(uint32) bool {
	return func(i uint32) bool { return uint32(atomic.LoadUint64(&s.states[i])>>32) == slot }
}

// policy is the cell that names the table of a slot.
func (s *shared) policy(slot uint32) *uint32 { return &s.policies[2*slot] }

func (s *shared) close() error {
	var errs []error
	for _, mem := range [][]byte{s.settingsMem, s.statesMem, s.policiesMem, s.headersMem, s.strictMem, s.namesMem} {
		if mem != nil {
			errs = append(errs, unix.Munmap(mem))
		}
	}
	return errors.Join(errs...)
}
