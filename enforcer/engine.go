package enforcer

import (
	"context"
	"fmt"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
)

// description is what the engine says of a container. Detail is absent (nil)
// where only an event or a list told of it.
type description struct {
	ID, Name, Image string
	Labels          map[string]string
	// ImageLabels are those of Labels' that the image has; ImageUnknown says that
	// nobody asked yet.
	ImageLabels  map[string]string
	ImageUnknown bool
	Running      bool
	Detail       *detail
}

// detail is what only an inspection tells.
type detail struct {
	Pid int
	// HostNet: its network is the host's, also through other containers.
	HostNet bool
	Placement
}

// change is one event of the engine.
type change struct {
	Action string
	description
}

// engine is all that we need of Docker, so that another client is one file.
type engine interface {
	// Watch returns when the stream stands: what happens from then on is told.
	Watch(ctx context.Context) (<-chan change, <-chan error)
	List(ctx context.Context) ([]description, error)
	Inspect(ctx context.Context, id string) (description, error)
	// ImageLabels are the labels of an image, by name or ID.
	ImageLabels(ctx context.Context, image string) (map[string]string, error)
	Close() error
}

type dockerEngine struct{ *client.Client }

func newEngine(address string) (engine, error) {
	c, err := client.NewClientWithOpts(client.WithHost(address), client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("docker at %s: %w", address, err)
	}
	return dockerEngine{c}, nil
}

// watched are the events that change what we hold of a container.
var watched = []events.Action{
	events.ActionCreate, events.ActionStart, events.ActionRename, events.ActionDie, events.ActionDestroy,
}

func (d dockerEngine) Watch(ctx context.Context) (<-chan change, <-chan error) {
	f := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)))
	for _, a := range watched {
		f.Add("event", string(a))
	}
	messages, errs := d.Events(ctx, events.ListOptions{Filters: f})
	// The engine drops events for a reader that is 256 behind for 100 ms: read
	// fast, let the queue here grow to what a start of thousands needs.
	changes := make(chan change, 16384)
	failed := make(chan error, 1)
	go func() {
		defer close(changes)
		for {
			select {
			case m := <-messages:
				select {
				case changes <- changeOf(m):
				case <-ctx.Done():
					return
				}
			case err := <-errs:
				failed <- err
				return
			}
		}
	}()
	return changes, failed
}

// changeOf reads an event. Its attributes are the container's labels with name
// and image beside them.
func changeOf(m events.Message) change {
	c := change{Action: string(m.Action)}
	c.ID, c.Name, c.Image = m.Actor.ID, m.Actor.Attributes["name"], m.Actor.Attributes["image"]
	c.Labels, c.ImageUnknown = m.Actor.Attributes, true
	c.Running = m.Action == events.ActionStart
	return c
}

func (d dockerEngine) List(ctx context.Context) ([]description, error) {
	list, err := d.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	out := make([]description, 0, len(list))
	for _, s := range list {
		out = append(out, description{
			ID: s.ID, Name: firstName(s.Names), Image: s.Image, Labels: s.Labels, ImageUnknown: true, Running: s.State == "running" || s.State == "paused" || s.State == "restarting",
		})
	}
	return out, nil
}

// firstName is the container's own name: the others are links, with a second
// slash.
func firstName(names []string) string {
	for _, n := range names {
		if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") {
			return n
		}
	}
	return ""
}

func (d dockerEngine) Inspect(ctx context.Context, id string) (description, error) {
	c, err := d.ContainerInspect(ctx, id)
	if err != nil {
		return description{}, fmt.Errorf("inspect container %s: %w", short(id), err)
	}
	out := description{ID: c.ID, Name: strings.TrimPrefix(c.Name, "/"), Detail: &detail{}}
	if c.Config != nil {
		out.Labels, out.Image = c.Config.Labels, c.Config.Image
	}
	if out.ImageLabels, err = d.ImageLabels(ctx, c.Image); err != nil {
		out.ImageUnknown = true
	}
	if c.State != nil {
		out.Running, out.Detail.Pid = c.State.Running, c.State.Pid
	}
	out.Detail.Placement = placed(c)
	if c.HostConfig != nil {
		out.Detail.HostNet, out.Detail.Beside = d.network(ctx, c.HostConfig.NetworkMode, 0)
	}
	return out, nil
}

func (d dockerEngine) ImageLabels(ctx context.Context, image string) (map[string]string, error) {
	i, err := d.ImageInspect(ctx, image)
	if err != nil {
		return nil, fmt.Errorf("inspect image %s: %w", image, err)
	}
	if i.Config == nil {
		return nil, nil
	}
	return i.Config.Labels, nil
}

func short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
