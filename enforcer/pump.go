package enforcer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/schemas"
)

const (
	// sweepEvery is the window in which repeats of a flow are counted.
	sweepEvery = time.Second
	// readMax is how many records one read of the ring takes.
	readMax = 4096
	// commitEvery is how often acknowledged records give back their room.
	commitEvery = 10 * time.Millisecond
	// flushWait bounds the end.
	flushWait = 2 * time.Second
)

// pumpStats tells how far the pump is.
type pumpStats struct {
	events, written, acked atomic.Uint64
}

// runPump carries records from the ring to the event log. A record stays in
// the ring until the log has acknowledged it, so that a kill at any point loses
// nothing; and a new start goes on behind the last record that the log holds,
// so that nothing is told twice.
func (e *Enforcer) runPump(ctx context.Context, log *eventlog.Log) error {
	ring := e.gate.Ring()
	w := log.FlowWriter(e.cfg.Host, e.boot)
	defer w.Close()
	if err := e.resume(ctx, w, ring); err != nil {
		return err
	}
	g, live := errgroup.WithContext(ctx)
	g.Go(func() error { return e.readRing(live, w, ring) })
	g.Go(func() error { return e.commitRing(live, w, ring) })
	err := g.Wait()
	e.flushPump(context.WithoutCancel(ctx), w, ring)
	return err
}

// resume goes on behind what the log holds of this ring.
func (e *Enforcer) resume(ctx context.Context, w *eventlog.FlowWriter, ring *bpf.Ring) error {
	pos, ok, err := w.Resume(ctx)
	if err != nil {
		return fmt.Errorf("resume the flow stream: %w", err)
	}
	if !ok || pos <= ring.Committed() {
		return nil
	}
	if err := ring.Seek(pos); err != nil {
		return fmt.Errorf("resume the ring: %w", err)
	}
	return nil
}

func (e *Enforcer) readRing(ctx context.Context, w *eventlog.FlowWriter, ring *bpf.Ring) error {
	for {
		records, end, err := ring.Read(ctx, readMax)
		if err != nil {
			return err
		}
		if err := w.Write(ctx, e.flows(records), end); err != nil {
			return err
		}
		e.pump.events.Add(uint64(len(records)))
		e.pump.written.Store(end)
	}
}

// commitRing gives the ring's room back as the log acknowledges.
func (e *Enforcer) commitRing(ctx context.Context, w *eventlog.FlowWriter, ring *bpf.Ring) error {
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := e.commit(w, ring); err != nil {
				return err
			}
		}
	}
}

func (e *Enforcer) commit(w *eventlog.FlowWriter, ring *bpf.Ring) error {
	acked := w.Acked()
	if acked <= ring.Committed() {
		return nil
	}
	if err := ring.Commit(acked); err != nil {
		return fmt.Errorf("commit the ring: %w", err)
	}
	e.pump.acked.Store(acked)
	return nil
}

// flushPump gives what is on its way a moment to be acknowledged; the rest
// waits in the ring for the next start.
func (e *Enforcer) flushPump(ctx context.Context, w *eventlog.FlowWriter, ring *bpf.Ring) {
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	if err := errors.Join(w.Flush(ctx), e.commit(w, ring)); err != nil {
		e.log.Warn("events wait in the ring for the next start", "err", err)
	}
}

func (e *Enforcer) flows(records []bpf.Event) []*schemas.Flow {
	out := make([]*schemas.Flow, len(records))
	for i := range records {
		out[i] = e.flow(&records[i])
	}
	return out
}

// flow names what the kernel knows by number.
func (e *Enforcer) flow(r *bpf.Event) *schemas.Flow {
	f := &schemas.Flow{
		Id:     schemas.FlowID(e.cfg.Host, e.boot, r.Position),
		TimeNs: r.Time.UnixNano(), Host: e.cfg.Host, Verdict: schemas.Verdict(r.Verdict), Count: r.Count,
		Revision: r.Revision, Rule: r.Rule, Mode: schemas.Mode(r.Mode), CgroupId: r.CgroupID,
		Proto: uint32(r.Proto), DstIp: address(r.Dst), DstPort: uint32(r.DstPort), SrcIp: address(r.Src), SrcPort: uint32(r.SrcPort),
		Pid: r.PID, Uid: r.UID, Comm: strings.ToValidUTF8(r.Comm, "?"), Hook: r.Hook.String(), Reason: r.Reason.String(),
		Attempt: r.Attempt,
	}
	if c, ok := e.registry.Lookup(r.Index); ok && c.doctor {
		f.Container, f.Workload, f.Reason = c.Name, c.Workload, cmp.Or(f.Reason, schemas.ReasonDoctor)
	} else if ok {
		f.ContainerId, f.Container, f.Image, f.Workload, f.Policy = c.ID, c.Name, c.Image, c.Workload, c.Workload
	} else {
		f.Container, f.Workload = "unknown", "unknown"
	}
	return f
}

func address(a netip.Addr) []byte {
	if !a.IsValid() || a.IsUnspecified() {
		return nil
	}
	return a.AsSlice()
}

// sweep closes the window of the flow table every second, and goes on as soon
// as there is room where the ring could not take all.
func (e *Enforcer) sweep(ctx context.Context) error {
	ring := e.gate.Ring()
	var told bpf.Position
	wait := time.NewTimer(sweepEvery)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wait.C:
		}
		res, err := e.gate.Sweep()
		wait.Reset(sweepEvery)
		switch {
		case err != nil:
			e.log.Error("flow table not swept, counts stay in the kernel", "err", err)
		case res.RingFull:
			wait.Reset(commitEvery)
		case res.Left == 0 && ring.Next() >= told:
			// What the sweep before this one told has its name once it is read.
			e.registry.Swept()
			told = ring.Committed() + ring.Pending()
		}
	}
}
