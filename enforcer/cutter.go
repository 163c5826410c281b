package enforcer

import (
	"context"
	"slices"
	"sync"
)

// cutter keeps what is to be done about connections that stood before a policy
// changed, and what was done. Enforcement never waits for it.
type cutter struct {
	wake chan struct{}

	mu sync.Mutex
	// started is true once the policies in force are those of the log and the
	// files: before, they may refuse what they are about to allow.
	started bool
	// live is the revision in force.
	live uint64
	next *cutJob
	// busy are those that are looked at, or will be again.
	busy []*cutJob
	past []*cutJob
	// news is closed, and another one made, when any of this changes.
	news chan struct{}
}

// cutJob is a look at containers after the revisions from and to, and all in
// between.
type cutJob struct {
	from, to uint64
	// keep are the containers, and whether their connections are kept.
	keep      map[string]bool
	cut, kept int
}

// has tells whether the job is about the revision.
func (j *cutJob) has(revision uint64) bool { return j != nil && j.from <= revision && revision <= j.to }

// keepPast is how many jobs are remembered, for those who ask what a revision
// did.
const keepPast = 256

// tell wakes whoever waits for news; mu is held.
func (c *cutter) tell() {
	if c.news != nil {
		close(c.news)
	}
	c.news = make(chan struct{})
}

// add puts a job in line, behind none or joined with the one that waits there.
func (c *cutter) add(j cutJob) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(j.keep) == 0 {
		return
	}
	if n := c.next; n != nil {
		n.from, n.to = min(n.from, j.from), max(n.to, j.to)
		for id, keep := range j.keep {
			before, both := n.keep[id]
			n.keep[id] = keep && (before || !both) // to cut is the stronger wish
		}
	} else {
		c.next = &j
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take gives the job that is next, nil if none.
func (c *cutter) take() *cutJob {
	c.mu.Lock()
	defer c.mu.Unlock()
	j := c.next
	if c.next = nil; j != nil {
		c.busy = append(c.busy, j)
	}
	return j
}

// done notes that jobs did what they have to.
func (c *cutter) done(jobs ...*cutJob) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = slices.DeleteFunc(c.busy, func(j *cutJob) bool { return slices.Contains(jobs, j) })
	c.past = append(c.past, jobs...)
	if n := len(c.past); n > keepPast {
		c.past = slices.Clone(c.past[n-keepPast:])
	}
	c.tell()
}

// reach notes the revision in force; the jobs that it brought were added
// before.
func (c *cutter) reach(revision uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = revision
	c.tell()
}

// begin tells, once, that the policies in force are the right ones.
func (c *cutter) begin() (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first = !c.started
	c.started = true
	c.tell()
	return first
}

func (c *cutter) begun() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.started
}

// of is what a revision did; ok is false while that is not known yet.
func (c *cutter) of(revision uint64) (cut, kept int, ok bool, news <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.news == nil {
		c.news = make(chan struct{})
	}
	if !c.started || c.live < revision || c.next.has(revision) ||
		slices.ContainsFunc(c.busy, func(j *cutJob) bool { return j.has(revision) }) {
		return 0, 0, false, c.news
	}
	for _, j := range c.past {
		if j.has(revision) {
			cut, kept = cut+j.cut, kept+j.kept
		}
	}
	return cut, kept, true, c.news
}

// wait is of, as soon as it is known.
func (c *cutter) wait(ctx context.Context, revision uint64) (cut, kept int, err error) {
	for {
		cut, kept, ok, news := c.of(revision)
		if ok {
			return cut, kept, nil
		}
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-news:
		}
	}
}
