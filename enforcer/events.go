package enforcer

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/schemas"
)

// withEventLog connects and runs all that needs the event log. Containers are
// looked after without it: the last good policy is enforced.
func (e *Enforcer) withEventLog(ctx context.Context, server *eventlog.Server) error {
	var own *eventlog.Server
	if server == nil && e.cfg.NATS.URL == "" {
		err := e.untilItWorks(ctx, func() (err error) {
			own, err = e.cfg.StartServer(e.log)
			return err
		})
		if err != nil {
			return err
		}
		server = own
	}
	err := e.connected(ctx, server)
	if own != nil {
		err = errors.Join(err, own.Close())
	}
	return err
}

// connected runs what needs the connection.
func (e *Enforcer) connected(ctx context.Context, server *eventlog.Server) error {
	var log *eventlog.Log
	err := e.untilItWorks(ctx, func() (err error) {
		log, err = eventlog.Connect(ctx, e.cfg.options(server, e.log))
		return err
	})
	if err != nil {
		return err
	}
	defer log.Close()
	e.events.Store(log)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return e.report.run(ctx, log) })
	g.Go(func() error { return e.runPump(ctx, log) })
	g.Go(func() error { return e.follow(ctx, log) })
	g.Go(func() error { return e.watchFolder(ctx, log) })
	g.Go(func() error { return e.answer(ctx, log) })
	g.Go(func() error { return e.heartbeat(ctx, log) })
	if server != nil {
		g.Go(func() error { return e.watchServer(ctx, server) })
	}
	return g.Wait()
}

// untilItWorks tries until ctx ends; each new error is told.
func (e *Enforcer) untilItWorks(ctx context.Context, try func() error) error {
	for wait := reconnectMin; ; wait = min(2*wait, reconnectMax) {
		err := try()
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		if e.problems.set("event log", err) && err != nil {
			e.report.add(hostEvent{Kind: schemas.KindEventLogAway, Severity: "error", Err: err.Error(),
				Message: "the event log is not there: the last good policy is enforced, decisions are counted in the kernel"})
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// watchServer tells what fails in the host's own server, which starts itself
// anew then.
func (e *Enforcer) watchServer(ctx context.Context, server *eventlog.Server) error {
	tick := time.NewTicker(gateEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			e.problems.set(problemStore, server.Trouble())
		case err := <-server.Failed():
			e.problems.set(problemStore, err)
			e.report.add(hostEvent{Kind: schemas.KindEventLogFailed, Severity: "error", Err: err.Error(),
				Message: "the host's own event log could not work and is started anew, decisions wait in the kernel"})
		}
	}
}

// options connect to the server, if one is given, else to the configured one.
func (c Config) options(server *eventlog.Server, log *slog.Logger) eventlog.Options {
	if server != nil {
		return server.Options()
	}
	return c.NATS.Options("egw-enforcer "+c.Host, log)
}
