package enforcer

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// kernel is what the registry asks of the gate.
type kernel interface {
	PutContainer(id string, index uint32) error
	RemoveContainer(id string) error
	Containers() (map[string]uint32, error)
	PutCgroup(cgroupID uint64, index uint32) error
	Cgroups() (map[uint64]uint32, error)
	SetState(index uint32, s bpf.State) error
	State(index uint32) (bpf.State, error)
	SetPolicy(slot uint32, t *policy.Table, revision uint64) error
	SetPolicyKeeping(slot uint32, t *policy.Table, revision uint64) error
	FreePolicy(slot uint32) error
	Counters(index uint32) (bpf.Counters, error)
	Overflow(index uint32) (bpf.Counters, error)
	Names(index uint32) (bpf.Names, error)
}

// Container is one container as the gate knows it.
type Container struct {
	ID       string      `json:"id"`
	Name     string      `json:"name"`
	Image    string      `json:"image"`
	Workload string      `json:"workload"`
	Index    uint32      `json:"index"`
	Label    policy.Mode `json:"label"`
	// Labelled is false where Label is the configured default.
	Labelled bool        `json:"labelled,omitempty"`
	Mode     policy.Mode `json:"mode"`
	NoDNS    bool        `json:"no_dns,omitempty"`
	Raw      bool        `json:"raw,omitempty"`
	HostNet  bool        `json:"host_network,omitempty"`
	// Problem is what is wrong with the labels; the mode is then block.
	Problem string `json:"problem,omitempty"`
	// Lost is why the gate cannot tell the container's processes.
	Lost      string    `json:"lost,omitempty"`
	Placement Placement `json:"placement,omitzero"`
	Running   bool      `json:"running"`
	// Base is what the kernel had counted for the index before it was this
	// container's.
	Base Counters `json:"base,omitzero"`

	missing time.Time
	// adopted is true while the kernel still holds what a former process
	// wrote for the container.
	adopted bool
	// doctor: it is none, but the doctor's probe.
	doctor bool
	// inspected is true after Docker told every detail.
	inspected bool
	// pid is that of its first process while it runs, else 0.
	pid int
	// cgroup is the folder of its cgroup, once it was seen to run.
	cgroup string
}

type registryOptions struct {
	DefaultMode   policy.Mode
	MaxContainers uint32
	Log           *slog.Logger
	Report        func(hostEvent)
	// Now is time.Now if nil.
	Now func() time.Time
}

// registry holds the containers and policies of the host and keeps the gate
// equal to them.
type registry struct {
	registryOptions
	kernel kernel

	mu         sync.Mutex
	containers map[string]*Container
	// byIndex holds the retired besides the living, until their index is free.
	byIndex map[uint32]*Container
	retired map[uint32]retirement
	slots   *slots
	// desired is what the policy log or the snapshot says; folded is true once
	// the log was read. Until then what a former process put in force stays: the
	// snapshot may be older.
	desired policySet
	folded  bool
	// learning is since when each workload learns, see census.
	learning map[string]time.Time
	changed  chan struct{}
}

// policySet is the rules and mode overrides that are to be in force.
type policySet struct {
	Rules    map[string][]policy.Rule
	Modes    map[string]policy.Mode
	Revision map[string]uint64
	// Effect is the last event that changed each policy.
	Effect map[string]policy.Effect
}

// effect is the last event that changed what a workload lives under.
func (s policySet) effect(workload string) policy.Effect {
	own, all := s.Effect[workload], s.Effect[policy.Everyone]
	if all.Revision > own.Revision {
		return all
	}
	return own
}

// keeps tells whether that left established connections alone.
func (s policySet) keeps(workload string) bool { return s.effect(workload).Keep }

func newRegistry(k kernel, o registryOptions) *registry {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &registry{
		registryOptions: o, kernel: k,
		containers: map[string]*Container{}, byIndex: map[uint32]*Container{}, retired: map[uint32]retirement{},
		slots: newSlots(k, o.MaxContainers), changed: make(chan struct{}, 1),
	}
}

// setUnknown sets what a container meets that nobody knew at its birth.
func (r *registry) setUnknown(m policy.Mode) error {
	if err := r.kernel.SetState(0, bpf.State{Mode: m}); err != nil {
		return fmt.Errorf("set the mode of unknown containers: %w", err)
	}
	r.byIndex[0] = &Container{Name: "unknown", Workload: "unknown", Mode: m}
	// The last index is the doctor's, see bpf.Gate.ProbeIndex.
	probe := r.MaxContainers - 1
	r.byIndex[probe] = &Container{Name: "egw-doctor", Workload: "egw-doctor", Index: probe, Mode: policy.ModeBlock, doctor: true}
	return nil
}

// adopt takes over what a pinned gate holds: indexes stay with their
// containers, and slots in use are not written to.
func (r *registry) adopt() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	held, err := r.kernel.Containers()
	if err != nil {
		return err
	}
	for id, index := range held {
		s, err := r.kernel.State(index)
		if err != nil {
			return err
		}
		c := &Container{ID: id, Name: short(id), Index: index, Mode: s.Mode, Label: s.Mode, NoDNS: s.NoDNS, Raw: s.Raw, HostNet: s.HostNetwork, adopted: true}
		r.containers[id], r.byIndex[index] = c, c
		r.slots.reserve(s.Slot)
	}
	return nil
}

// Put makes the gate know a container, before it starts if told in time.
func (r *registry) Put(d description) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.container(d)
	if err != nil {
		return err
	}
	c.Name, c.Image, c.Running, c.missing = d.Name, d.Image, d.Running, time.Time{}
	r.read(c, d)
	if d.Detail != nil {
		c.HostNet, c.Placement, c.pid, c.inspected = d.Detail.HostNet, d.Detail.Placement, d.Detail.Pid, true
	}
	r.touch()
	if c.adopted && !r.folded {
		return nil
	}
	return r.apply(c)
}

// read takes what a container's labels ask for. Where its image's labels are not
// known, what was read before stands, and without that all are the image's.
func (r *registry) read(c *Container, d description) {
	image := d.ImageLabels
	if d.ImageUnknown && imageMatters(d.Labels, r.DefaultMode) {
		if c.Workload != "" {
			return
		}
		image = d.Labels
	}
	wish, problem := parseLabels(d.Labels, image, r.DefaultMode)
	// A new name of the container is no new workload: it would take the policy
	// and an operator's mode off.
	if own := labelledWorkload(wish, d.Labels, image); own != "" {
		c.Workload = own
	} else if c.Workload == "" {
		c.Workload = d.Name
	}
	c.Label, c.NoDNS, c.Raw = wish.Mode, wish.NoDNS, wish.Raw
	c.Labelled = modeLabelled(d.Labels, image, r.DefaultMode)
	r.noteProblem(c, problem)
}

// container finds or adds, with an index of its own.
func (r *registry) container(d description) (*Container, error) {
	if c, ok := r.containers[d.ID]; ok {
		return c, nil
	}
	index, err := r.freeIndex()
	if err != nil {
		return nil, fmt.Errorf("container %s (%s): %w", d.Name, short(d.ID), err)
	}
	// The longest name that a former container asked for is not this one's.
	if _, err := r.kernel.Names(index); err != nil {
		return nil, fmt.Errorf("container %s (%s): %w", d.Name, short(d.ID), err)
	}
	c := &Container{ID: d.ID, Index: index, Base: r.base(index)}
	r.containers[d.ID], r.byIndex[index] = c, c
	return c, nil
}

var errTooMany = errors.New("the gate holds no more containers: this one is treated as unknown; raise max_containers or remove stopped containers")

func (r *registry) freeIndex() (uint32, error) {
	for i := uint32(1); i < r.MaxContainers; i++ {
		if _, used := r.byIndex[i]; !used {
			return i, nil
		}
	}
	return 0, errTooMany
}

// counted is what the kernel ever counted for an index, whoever had it.
func (r *registry) counted(index uint32) (Counters, error) {
	c, err := r.kernel.Counters(index)
	if err != nil {
		return Counters{}, fmt.Errorf("read counters of index %d: %w", index, err)
	}
	o, err := r.kernel.Overflow(index)
	if err != nil {
		return Counters{}, fmt.Errorf("read overflow of index %d: %w", index, err)
	}
	return Counters{Allow: c.Allow, Deny: c.Deny, WouldDeny: c.WouldDeny, Overflow: o.Allow + o.Deny + o.WouldDeny}, nil
}

// base is what an index comes with. A wrong count is no reason to leave a
// container unknown.
func (r *registry) base(index uint32) Counters {
	c, err := r.counted(index)
	if err != nil {
		r.Log.Warn("decisions of former containers count as the new one's", "err", err)
	}
	return c
}

func (r *registry) noteProblem(c *Container, problem error) {
	text := ""
	if problem != nil {
		text = problem.Error()
	}
	if text != "" && text != c.Problem {
		r.Report(hostEvent{
			Kind: schemas.KindLabelInvalid, Severity: "error", Err: text, Container: c.Name, ContainerID: c.ID, Workload: c.Workload,
			Message: "labels are not understood, the container is blocked",
		})
	}
	c.Problem = text
}

// apply writes a container's state; its policy is compiled first, so that it
// never runs under an empty one.
func (r *registry) apply(c *Container) error {
	mode := r.effective(c)
	state := bpf.State{Mode: mode, HostNetwork: c.HostNet, NoDNS: c.NoDNS, Raw: c.Raw, Keep: r.desired.keeps(c.Workload)}
	var errs []error
	if mode != policy.ModeAllow {
		slot, err := r.slots.use(c.Workload, r.desired)
		if err != nil {
			errs = append(errs, r.refused(c.Workload, err))
		}
		state.Slot = slot
	}
	if err := r.kernel.SetState(c.Index, state); err != nil {
		return fmt.Errorf("container %s: %w", c.Name, err)
	}
	c.Mode, c.adopted = mode, false
	if err := r.kernel.PutContainer(c.ID, c.Index); err != nil {
		return fmt.Errorf("container %s: %w", c.Name, err)
	}
	return errors.Join(errs...)
}

// refused reports a policy that cannot be put into the gate.
func (r *registry) refused(workload string, err error) error {
	err = fmt.Errorf("policy %s: %w", workload, err)
	r.Report(hostEvent{
		Kind: schemas.KindPolicyInvalid, Severity: "error", Err: err.Error(), Workload: workload, Policy: workload,
		Message: "policy cannot be enforced, the last good one stays",
	})
	return err
}

// effective is operator override, else label; a container with a problem in
// its labels is blocked whatever an operator said for its workload.
func (r *registry) effective(c *Container) policy.Mode {
	if c.Problem != "" {
		return policy.ModeBlock
	}
	if m, ok := r.desired.Modes[c.Workload]; ok {
		return m
	}
	return c.Label
}

// SetPolicies makes a new set of rules and modes live. Workloads whose rules
// did not change are left alone. It returns the workloads that changed.
func (r *registry) SetPolicies(set policySet, now time.Time) ([]string, error) {
	return r.setPolicies(set, nil, now)
}

// setPolicies looks at the policies touched alone; nil is all.
func (r *registry) setPolicies(set policySet, touched map[string]bool, now time.Time) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.desired, r.folded = set, true
	r.touch()
	return r.enforce(touched, now)
}

// refresh puts in force what is desired already, when time has changed it.
func (r *registry) refresh(now time.Time) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed, errs := r.slots.refresh(r.desired, nil, now, r.refused)
	return changed, errors.Join(errs...)
}

func (r *registry) enforce(touched map[string]bool, now time.Time) ([]string, error) {
	changed, errs := r.slots.refresh(r.desired, touched, now, r.refused)
	for _, c := range r.containers {
		// One without a workload was never described to us: what the kernel
		// holds for it is right until it is.
		if c.Workload == "" || r.effective(c) == c.Mode && !c.adopted {
			continue
		}
		if err := r.apply(c); err != nil {
			errs = append(errs, err)
			continue
		}
		changed = append(changed, c.Workload)
	}
	slices.Sort(changed)
	return slices.Compact(changed), errors.Join(errs...)
}

// touch tells the snapshot keeper.
func (r *registry) touch() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// List is every living container, sorted by name.
func (r *registry) List() []Container {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Container, 0, len(r.containers))
	for _, c := range r.containers {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Container) int {
		if a.Name != b.Name {
			return compareStrings(a.Name, b.Name)
		}
		return compareStrings(a.ID, b.ID)
	})
	return out
}

// Lookup finds who has or had an index.
func (r *registry) Lookup(index uint32) (Container, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.byIndex[index]
	if !ok {
		return Container{}, false
	}
	return *c, true
}

// Desired is a copy of what is to be in force.
func (r *registry) Desired() policySet {
	r.mu.Lock()
	defer r.mu.Unlock()
	return policySet{Rules: cloneMap(r.desired.Rules), Modes: cloneMap(r.desired.Modes), Revision: cloneMap(r.desired.Revision),
		Effect: cloneMap(r.desired.Effect)}
}

// cloneMap is never nil.
func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	out := make(map[K]V, len(m))
	maps.Copy(out, m)
	return out
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Current tells whether a listed container is already known as it is listed,
// with its details. One that an event told of, or that starts or ends between
// two lists, is inspected again.
func (r *registry) Current(d description) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.containers[d.ID]
	return ok && c.inspected && c.Name == d.Name && c.Running == d.Running
}
