package enforcer

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egresswarden/egresswarden/policy"
)

// looks is a looker over containers that are none, at a time of its own.
type looks struct {
	*looker
	clock   time.Time
	running []Container
	effects map[string]policy.Effect
	events  []hostEvent
	fails   map[string]error

	mu sync.Mutex
	// done are the looks since the last call of took, sorted.
	done []string
	// finds is what each look finds.
	finds int
}

func newLooks(ids ...string) *looks {
	l := &looks{clock: time.Unix(1_800_000_000, 0), effects: map[string]policy.Effect{}, fails: map[string]error{}}
	for _, id := range ids {
		l.running = append(l.running, Container{ID: id, Name: "name-" + id, Workload: id})
	}
	l.looker = &looker{
		cutter: &cutter{wake: make(chan struct{}, 1)}, problems: &problems{},
		attached: func() bool { return true },
		blocked: func(which func(*Container) bool) []Container {
			return slices.DeleteFunc(slices.Clone(l.running), func(c Container) bool { return !which(&c) })
		},
		effect: func(workload string) policy.Effect { return l.effects[workload] },
		connections: func(c Container, keep bool) (int, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			what := "cut "
			if keep {
				what = "keep "
			}
			l.done = append(l.done, what+c.ID)
			return l.finds, l.fails[c.ID]
		},
		report: func(h hostEvent) { l.events = append(l.events, h) },
		now:    func() time.Time { return l.clock },
	}
	l.begin()
	return l
}

// pass lets time pass, and what is due be done.
func (l *looks) pass(d time.Duration) {
	l.clock = l.clock.Add(d)
	l.second()
	l.retry()
}

// change is a revision of the containers, which is looked at.
func (l *looks) change(revision uint64, keep bool, ids ...string) {
	j := cutJob{from: revision, to: revision, keep: map[string]bool{}}
	for _, id := range ids {
		j.keep[id] = keep
		l.effects[id] = policy.Effect{Revision: revision, Keep: keep}
	}
	l.add(j)
	l.reach(revision)
	l.first()
}

func (l *looks) took() string {
	slices.Sort(l.done)
	defer func() { l.done = nil }()
	return strings.Join(l.done, ", ")
}

func (l *looks) want(t *testing.T, when, want string) {
	t.Helper()
	if got := l.took(); got != want {
		t.Errorf("%s: looked at %q, want %q", when, got, want)
	}
}

func TestEachContainerIsLookedAtAgainInItsOwnTime(t *testing.T) {
	l := newLooks("a", "b")
	l.change(1, false, "a")
	l.want(t, "at once", "cut a")
	l.pass(lookAgain - time.Millisecond)
	l.change(2, false, "b")
	l.want(t, "a second change", "cut b")
	l.pass(time.Millisecond)
	l.want(t, "when a is due", "cut a")
	l.pass(lookAgain - 2*time.Millisecond)
	l.want(t, "before b is due", "")
	if at, ok := l.next(); !ok || at.Sub(l.clock) != time.Millisecond {
		t.Errorf("next is due in %v, %v", at.Sub(l.clock), ok)
	}
	l.pass(time.Millisecond)
	l.want(t, "when b is due", "cut b")
	l.pass(time.Hour)
	l.want(t, "afterwards", "")
}

func TestWhatTheSecondLookCutsIsInTheAnswer(t *testing.T) {
	l := newLooks("a")
	l.finds = 2
	l.change(1, false, "a")
	if _, _, ok, _ := l.of(1); ok {
		t.Error("the answer is given before the second look")
	}
	l.finds = 1
	l.pass(lookAgain)
	if cut, kept, ok, _ := l.of(1); !ok || cut != 3 || kept != 0 {
		t.Errorf("%d cut, %d kept, known %v; want 3 cut", cut, kept, ok)
	}
	l.change(2, true, "a")
	if cut, kept, ok, _ := l.of(2); !ok || cut != 0 || kept != 1 {
		t.Errorf("%d cut, %d kept, known %v; want 1 kept, at once", cut, kept, ok)
	}
	l.pass(lookAgain)
	if _, kept, _, _ := l.of(2); kept != 1 {
		t.Errorf("%d kept, counted twice", kept)
	}
	var kinds []string
	for _, e := range l.events {
		kinds = append(kinds, e.Kind)
	}
	if diff := cmp.Diff([]string{"connections.cut", "connections.cut", "connections.kept"}, kinds); diff != "" {
		t.Error(diff)
	}
}

func TestASecondLookLeavesWhatWasToBeKeptMeanwhile(t *testing.T) {
	l := newLooks("a", "b")
	l.change(1, false, "a", "b")
	l.took()
	l.change(2, true, "a")
	l.want(t, "the change that keeps", "keep a")
	l.pass(lookAgain)
	l.want(t, "the second look of the change before", "cut b")
	l.change(3, false, "a")
	l.took()
	l.pass(lookAgain)
	l.want(t, "the second look of a change that cuts", "cut a")
	t.Run("but not for a keep of before", func(t *testing.T) {
		l.effects["b"] = policy.Effect{Revision: 2, Keep: true}
		l.add(cutJob{from: 3, to: 3, keep: map[string]bool{"b": false}}) // a timed rule ended
		l.first()
		l.took()
		l.pass(lookAgain)
		l.want(t, "the second look", "cut b")
	})
}

func TestOneContainersCureIsNotAnothers(t *testing.T) {
	l := newLooks("a", "b")
	l.fails["a"], l.fails["b"] = errors.New("no such device"), errors.New("not permitted")
	l.change(1, false, "a", "b")
	problems := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, l.problems.list()); diff != "" {
			t.Errorf("problems: %s", diff)
		}
	}
	a, b := "connections a: container name-a: no such device", "connections b: container name-b: not permitted"
	problems(a, b)
	l.pass(lookAgain)
	delete(l.fails, "b")
	l.change(2, false, "b")
	problems(a)
	l.pass(lookAgain)
	if len(l.events) != 2 || l.events[0].Kind != "connections.standing" || l.events[0].Container == l.events[1].Container {
		t.Errorf("events: %+v", l.events)
	}
	l.took()
	l.pass(retryAfter)
	l.want(t, "when it is tried again", "cut a")
	problems(a)
	delete(l.fails, "a")
	l.pass(retryAfter)
	l.want(t, "and again", "cut a")
	problems()
	l.pass(time.Hour)
	l.want(t, "when it has worked", "")
}

func TestTheProblemOfAContainerEndsWithIt(t *testing.T) {
	l := newLooks("a")
	l.fails["a"] = errors.New("not permitted")
	l.change(1, false, "a")
	l.running = nil
	l.pass(retryAfter)
	if got := l.problems.list(); len(got) != 0 {
		t.Errorf("problems: %q", got)
	}
	if _, ok := l.next(); ok {
		t.Error("it is to be looked at again")
	}
}
