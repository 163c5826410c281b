package enforcer

import (
	"errors"
	"fmt"
	"time"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/policy"
)

// sweepsToFree is how many complete sweeps of the flow table must pass before
// a removed container's index is used again: what it counted has then left the
// table and the ring under its own name.
const sweepsToFree = 3

// restToFree is how long it rests besides: the gate admits replies to UDP peers
// of an index for 60 s, which must not become another container's peers.
const restToFree = 65 * time.Second

// retirement is how far a removed container's index is from being used again.
type retirement struct {
	sweeps int
	// since is when it was last seen in use.
	since time.Time
}

// Remove forgets a container that Docker destroyed. Its index stays its own
// until its counts are out of the kernel.
func (r *registry) Remove(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.containers[id]
	if !ok {
		return nil
	}
	return r.remove(c)
}

func (r *registry) remove(c *Container) error {
	if err := r.kernel.RemoveContainer(c.ID); err != nil {
		return fmt.Errorf("remove container %s: %w", c.Name, err)
	}
	// What is left of it is refused everything: its policy's slot may become
	// another's.
	if err := r.kernel.SetState(c.Index, bpf.State{Mode: policy.ModeBlock}); err != nil {
		return fmt.Errorf("remove container %s: %w", c.Name, err)
	}
	delete(r.containers, c.ID)
	r.retired[c.Index] = retirement{since: r.Now()}
	r.touch()
	return r.dropUnused(c.Workload)
}

// dropUnused frees the policy of a workload without containers.
func (r *registry) dropUnused(workload string) error {
	for _, c := range r.containers {
		if c.Workload == workload {
			return nil
		}
	}
	return r.slots.drop(workload)
}

// Swept notes that a sweep left nothing behind, and frees the indexes whose
// counts are out.
func (r *registry) Swept() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.retired) == 0 {
		return
	}
	living, err := r.livingIndexes()
	if err != nil {
		r.Log.Warn("indexes of removed containers stay taken", "err", err)
		return
	}
	now := r.Now()
	for index, past := range r.retired {
		past.sweeps++
		if living[index] {
			past.since = now
		}
		if past.sweeps < sweepsToFree || now.Sub(past.since) < restToFree {
			r.retired[index] = past
			continue
		}
		delete(r.retired, index)
		delete(r.byIndex, index)
		r.touch()
	}
}

// Settle compares with a whole list of Docker's: a container that is missing
// from the lists for longer than the settling time, and has no cgroup left, is
// forgotten. One empty list of a daemon that is just starting changes nothing.
func (r *registry) Settle(listed []description, settle time.Duration, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	present := make(map[string]bool, len(listed))
	for _, d := range listed {
		present[d.ID] = true
	}
	living, err := r.livingIndexes()
	if err != nil {
		return err
	}
	var errs []error
	for id, c := range r.containers {
		switch {
		case present[id]:
			c.missing = time.Time{}
		case c.missing.IsZero():
			c.missing = now
		case now.Sub(c.missing) >= settle && !living[c.Index]:
			errs = append(errs, r.remove(c))
		}
	}
	errs = append(errs, r.releaseAdopted())
	return errors.Join(errs...)
}

// livingIndexes are those that some cgroup still carries.
func (r *registry) livingIndexes() (map[uint32]bool, error) {
	cgroups, err := r.kernel.Cgroups()
	if err != nil {
		return nil, fmt.Errorf("read cgroups of the gate: %w", err)
	}
	living := map[uint32]bool{}
	for _, index := range cgroups {
		living[index] = true
	}
	return living, nil
}

// releaseAdopted frees the policies that a former process left, once every
// container has been given its own again.
func (r *registry) releaseAdopted() error {
	for _, c := range r.containers {
		if c.adopted {
			return nil
		}
	}
	return r.slots.release()
}
