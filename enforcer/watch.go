package enforcer

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/schemas"
)

const (
	// resyncEvery is how often Docker's whole list is compared, whatever its
	// events told.
	resyncEvery = 10 * time.Second
	// reconnectMin and reconnectMax bound the wait for an engine that is away.
	reconnectMin = 100 * time.Millisecond
	reconnectMax = 5 * time.Second
)

// watcher turns what Docker tells into the registry's state.
type watcher struct {
	engine    engine
	registry  *registry
	report    func(hostEvent)
	log       *slog.Logger
	connected *atomic.Bool
	settle    time.Duration
	root      string
	// problem, if set, is told how the connection to Docker stands.
	problem func(error)
	// covered, if set, is told of a container whose cgroups the gate knows.
	covered func(id string)
}

// run follows Docker until ctx ends. Whenever the stream breaks, it opens a new
// one and lists again: what happened meanwhile is in the list.
func (w *watcher) run(ctx context.Context) error {
	wait, lost := reconnectMin, false
	for ctx.Err() == nil {
		err := w.follow(ctx, func() {
			if lost {
				w.report(hostEvent{Kind: schemas.KindDockerBack, Severity: "info", Message: "docker answers again, its containers are compared"})
			}
			wait, lost = reconnectMin, false
			w.stands(nil)
		})
		if ctx.Err() != nil {
			break
		}
		w.connected.Store(false)
		w.stands(err)
		if !lost {
			w.report(warn(schemas.KindDockerLost, "docker's events are away, running containers stay judged", err))
		}
		lost = true
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, reconnectMax)
	}
	return ctx.Err()
}

func (w *watcher) stands(err error) {
	if w.problem != nil {
		w.problem(err)
	}
}

// follow opens the event stream, then lists, and compares from time to time,
// until the stream ends. Docker answers no question about a container that it
// is just starting or stopping, for as long as that takes; so questions are
// asked beside the events, or else one container's start would keep the next
// one's creation from the gate.
func (w *watcher) follow(ctx context.Context, up func()) error {
	g, ctx := errgroup.WithContext(ctx)
	changes, failed := w.engine.Watch(ctx)
	asks := newInquiries()
	g.Go(func() error { return w.takeAll(ctx, changes, failed, asks.add) })
	for range inquirers {
		g.Go(func() error {
			return asks.run(ctx, func(id string) { w.inspect(ctx, w.log.With("container_id", short(id)), id) })
		})
	}
	g.Go(func() error { return w.compare(ctx, up) })
	return g.Wait()
}

// takeAll handles the events in their order.
func (w *watcher) takeAll(ctx context.Context, changes <-chan change, failed <-chan error, ask func(id string)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c, ok := <-changes:
			if !ok {
				return errors.New("docker's event stream ended")
			}
			w.take(ctx, c, ask)
		case err := <-failed:
			return err
		}
	}
}

// compare lists once, which makes the stream good, and then from time to time.
func (w *watcher) compare(ctx context.Context, up func()) error {
	if err := w.resync(ctx); err != nil {
		return err
	}
	w.connected.Store(true)
	up()
	tick := time.NewTicker(resyncEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := w.resync(ctx); err != nil {
				return err
			}
		}
	}
}

// take handles one event. What fails is mended by the next comparison.
func (w *watcher) take(ctx context.Context, c change, ask func(id string)) {
	log := w.log.With("container", c.Name, "container_id", short(c.ID))
	log.Debug("docker event", "action", c.Action)
	switch c.Action {
	case "destroy":
		if err := w.registry.Remove(c.ID); err != nil {
			log.Error("container not removed from the gate", "err", err)
		}
		return
	case "create":
		// The event has the labels: no question about the container, which Docker
		// is about to start, stands between the creation and the gate.
		w.askImage(ctx, log, &c.description)
		w.put(log, c.description)
	}
	ask(c.ID)
}

// imageWait bounds the one question that stands between a creation and the
// gate. Without an answer the labels are taken for the image's, until Docker
// tells all of the container.
const imageWait = time.Second

// askImage asks for the labels of a new container's image, where it matters
// whose they are.
func (w *watcher) askImage(ctx context.Context, log *slog.Logger, d *description) {
	if !imageMatters(d.Labels, w.registry.DefaultMode) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, imageWait)
	defer cancel()
	labels, err := w.engine.ImageLabels(ctx, d.Image)
	if err != nil {
		log.Warn("the labels of the image are not known, they are taken for its own", "err", err)
		return
	}
	d.ImageLabels, d.ImageUnknown = labels, false
}

func (w *watcher) put(log *slog.Logger, d description) {
	if err := w.registry.Put(d); err != nil {
		log.Error("container not in the gate as wished", "err", err)
	}
}

// inspect asks for all of a container and looks after its cgroups if it runs.
func (w *watcher) inspect(ctx context.Context, log *slog.Logger, id string) {
	d, err := w.engine.Inspect(ctx, id)
	switch {
	case cerrdefs.IsNotFound(err):
		return
	case err != nil:
		log.Warn("container not inspected", "err", err)
		return
	}
	w.put(log, d)
	if d.Running && d.Detail.Pid > 0 {
		w.verify(log, d)
	}
}

// verify makes sure that the container's cgroups are known. A process that is
// gone by now has nothing to be judged.
func (w *watcher) verify(log *slog.Logger, d description) {
	root := w.root
	if root == "" {
		var err error
		if root, err = bpf.CgroupRoot(); err != nil {
			log.Error("no cgroup hierarchy of version 2", "err", err)
			return
		}
		w.root = root
	}
	err := w.registry.Verify(root, d.ID, d.Detail.Pid)
	if err == nil && w.covered != nil {
		w.covered(d.ID)
	}
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return
	}
	log.Error("container is not covered", "err", err)
	w.report(hostEvent{
		Kind: schemas.KindContainerUncovered, Severity: "error", Container: d.Name, ContainerID: d.ID, Err: err.Error(),
		Message: "the gate cannot tell this container's processes",
	})
}

// resync compares with Docker's whole list.
func (w *watcher) resync(ctx context.Context) error {
	list, err := w.engine.List(ctx)
	if err != nil {
		return err
	}
	for _, d := range list {
		if w.registry.Current(d) {
			continue
		}
		log := w.log.With("container", d.Name, "container_id", short(d.ID))
		w.put(log, d)
		w.inspect(ctx, log, d.ID)
	}
	return w.registry.Settle(list, w.settle, time.Now())
}
