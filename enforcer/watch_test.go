package enforcer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/policy"
)

func newTestWatcher(t *testing.T, f *fakeEngine, k *fakeKernel) (*watcher, *recorder) {
	t.Helper()
	r, ev := newTestRegistry(t, k)
	return &watcher{
		engine: f, registry: r, report: ev.add, log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		connected: &atomic.Bool{}, settle: time.Hour, root: t.TempDir(),
	}, ev
}

func TestCreateEventIsEnoughToBeKnown(t *testing.T) {
	f, k := newFakeEngine(), newFakeKernel()
	w, _ := newTestWatcher(t, f, k)
	w.take(t.Context(), change{Action: "create", description: labelled("a", "block")}, func(string) {})
	if s, _ := k.table("a"); k.containers["a"] == 0 || s.Mode != policy.ModeBlock {
		t.Errorf("the container is not known after its creation: index %d, mode %s", k.containers["a"], s.Mode)
	}
}

func TestANewContainersImageIsAskedWhereItMatters(t *testing.T) {
	f, k := newFakeEngine(), newFakeKernel()
	w, _ := newTestWatcher(t, f, k)
	w.registry.DefaultMode = policy.ModeBlock
	f.images = map[string]map[string]string{"plain": nil, "open": {"egress": "allow"}}
	create := func(id, image string) policy.Mode {
		d := labelled(id, "allow")
		d.Image, d.ImageUnknown = image, true
		w.take(t.Context(), change{Action: "create", description: d}, func(string) {})
		s, _ := k.table(id)
		return s.Mode
	}
	for image, want := range map[string]policy.Mode{"plain": policy.ModeAllow, "open": policy.ModeBlock, "gone": policy.ModeBlock} {
		if got := create(image, image); got != want {
			t.Errorf("egress=allow with the image %s: %s, want %s", image, got, want)
		}
	}
	// What was known stands when nobody can tell any more.
	d := labelled("plain", "allow")
	d.ImageUnknown = true
	put(t, w.registry, d)
	if s, _ := k.table("plain"); s.Mode != policy.ModeAllow {
		t.Errorf("with the image gone: %s, want allow", s.Mode)
	}
}

// Docker answers a question about a container only when it has done with
// starting it.
func TestAContainerThatStartsDoesNotDelayTheNext(t *testing.T) {
	f, k := newFakeEngine(), newFakeKernel()
	release := make(chan struct{})
	f.busy = func() { <-release }
	w, _ := newTestWatcher(t, f, k)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.run(ctx) }()
	defer func() { close(release); cancel(); <-done }()
	eventually(t, "the stream stands", func() bool { return w.connected.Load() })
	for i := range 20 {
		f.changes <- change{Action: "create", description: labelled(fmt.Sprintf("c%02d", i), "block")}
	}
	eventually(t, "all containers are known", func() bool { held, _ := k.Containers(); return len(held) == 20 })
}

func TestAnInquiryIsMadeOnce(t *testing.T) {
	q := newInquiries()
	for range 3 {
		q.add("a")
		q.add("b")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked []string
	_ = q.run(ctx, func(id string) {
		asked = append(asked, id)
		if len(asked) == 1 {
			q.add("a") // not in the answer that is on its way
		}
		if len(asked) == 3 {
			cancel()
		}
	})
	if fmt.Sprint(asked) != "[a b a]" || len(q.queue) != 0 {
		t.Errorf("asked about %v, %d wait", asked, len(q.queue))
	}
}

func TestOneEmptyListOfASettlingDaemonChangesNothing(t *testing.T) {
	f, k := newFakeEngine(), newFakeKernel()
	w, _ := newTestWatcher(t, f, k)
	f.set([]description{labelled("a", "block"), labelled("b", "learn")}, nil)
	for _, list := range [][]description{f.list, nil, nil} {
		f.set(list, nil)
		if err := w.resync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(k.containers) != 2 {
		t.Errorf("%d containers are left after an empty list, want 2", len(k.containers))
	}
	w.settle = 0
	if err := w.resync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(k.containers) != 0 {
		t.Errorf("%d containers are left for ever", len(k.containers))
	}
}

func TestAContainerWhoseCgroupLivesIsNotForgotten(t *testing.T) {
	f, k := newFakeEngine(), newFakeKernel()
	w, _ := newTestWatcher(t, f, k)
	w.settle = 0
	f.set([]description{labelled("a", "block")}, nil)
	if err := w.resync(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.cgroups[4711] = k.containers["a"]
	f.set(nil, nil)
	for range 3 {
		if err := w.resync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if k.containers["a"] == 0 {
		t.Error("a living container was forgotten")
	}
}

func TestABrokenStreamIsFollowedByAList(t *testing.T) {
	f, k := newFakeEngine(), newFakeKernel()
	w, ev := newTestWatcher(t, f, k)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.run(ctx) }()
	defer func() { cancel(); <-done }()
	eventually(t, "the stream stands", func() bool { return w.connected.Load() })
	// What happens while the stream is broken is told by no event.
	var started []description
	for i := range 40 {
		started = append(started, labelled(fmt.Sprintf("c%02d", i), "block"))
	}
	f.set(started, nil)
	f.failed <- errors.New("unexpected EOF")
	eventually(t, "all containers are known", func() bool {
		held, _ := k.Containers()
		return len(held) == len(started)
	})
	if ev.count("docker.lost") == 0 || ev.count("docker.back") == 0 {
		t.Error("the loss is not told")
	}
}

func TestAnEngineThatFailsIsTriedAgain(t *testing.T) {
	f, k := newFakeEngine(), newFakeKernel()
	w, _ := newTestWatcher(t, f, k)
	f.set(nil, errors.New("connection refused"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.run(ctx) }()
	defer func() { cancel(); <-done }()
	eventually(t, "a second try", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.watches > 1 })
	f.set([]description{labelled("a", "learn")}, nil)
	eventually(t, "the container is known", func() bool { held, _ := k.Containers(); return len(held) == 1 })
}
