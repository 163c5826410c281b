package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/learner"
	"github.com/egresswarden/egresswarden/operator"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

func TestMain(m *testing.M) {
	// Times print the same everywhere. Later on, servers' timers read it.
	time.Local = time.UTC
	testscript.Main(m, map[string]func(){"egw": main})
}

// TestScripts runs testdata/script/*.txtar, each with an event log of its own
// behind $EGW_NATS. Besides testscript's commands there is
//
//	record FILE   write flows: a JSON object a line, fields as in egw flows -o json,
//	              or ago with a duration instead of time
//	learn         append what the learner proposes now
//	proposal VARIABLE FILE TEXT  the ID of the one in a json list with a rule that has the text
//	append FILE   append policy events, one a line as in the stream
//	code N CMD..  run a command, which must exit with N
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup:               setupScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"record":   recordFlows,
			"learn":    learnOnce,
			"append":   appendEvents,
			"proposal": findProposal,
			"code":     wantCode,
		},
	})
}

type recorderKey struct{}

// recorder is a script's way to write flows.
type recorder struct {
	log   *eventlog.Log
	boots int // makes the positions of each recording new
}

func setupScript(e *testscript.Env) error {
	dir, err := os.MkdirTemp("", "egw") // a socket's path must be short
	if err != nil {
		return err
	}
	e.Defer(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	s, err := eventlog.StartServer(eventlog.ServerOptions{Dir: filepath.Join(dir, "nats"), Socket: path})
	if err != nil {
		return err
	}
	e.Defer(func() { _ = s.Close() })
	l, err := eventlog.Connect(context.Background(), s.Options())
	if err != nil {
		return err
	}
	e.Defer(l.Close)
	e.Values[recorderKey{}] = &recorder{log: l}
	e.Setenv("EGW_NATS", "unix://"+path)
	e.Setenv("TZ", "UTC")
	e.Setenv("ACTOR", operator.LocalActor(os.Getenv))
	e.Setenv("SUDO_USER", os.Getenv("SUDO_USER"))
	e.Setenv("GORACE", "atexit_sleep_ms=0") // else each command of a race test ends a second late
	return nil
}

// recordFlows writes the flows of a file.
func recordFlows(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: record FILE")
	}
	r := ts.Value(recorderKey{}).(*recorder)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r.boots++
	boot := fmt.Sprint("boot", r.boots)
	writers := map[string]*eventlog.FlowWriter{}
	for n, line := range strings.Split(strings.TrimSpace(ts.ReadFile(args[0])), "\n") {
		f, err := readFlow(line)
		ts.Check(err)
		w := writers[f.GetHost()]
		if w == nil {
			w = r.log.FlowWriter(f.GetHost(), boot)
			writers[f.GetHost()] = w
			defer w.Close()
		}
		f.Id = schemas.FlowID(f.GetHost(), boot, uint64(n))
		ts.Check(w.Write(ctx, []*schemas.Flow{f}, uint64(n)+1))
		ts.Check(w.Flush(ctx))
	}
}

// readFlow is AppendLine backwards, as far as the scripts need.
func readFlow(line string) (*schemas.Flow, error) {
	var j struct {
		Time                                                               time.Time
		Host, Verdict, Workload, Container, Proto, Mode, Comm, Reason, Ago string
		DstIP                                                              string `json:"dst_ip"`
		ContainerID                                                        string `json:"container_id"`
		DstPort                                                            uint32 `json:"dst_port"`
		Pid, Rule                                                          uint32
		Count                                                              uint64
	}
	j.Host, j.Proto, j.Count = "web-1", "tcp", 1
	if err := json.Unmarshal([]byte(line), &j); err != nil {
		return nil, fmt.Errorf("flow %s: %w", line, err)
	}
	if j.Ago != "" {
		ago, err := time.ParseDuration(j.Ago)
		if err != nil {
			return nil, err
		}
		j.Time = time.Now().Add(-ago)
	}
	f := &schemas.Flow{
		TimeNs: j.Time.UnixNano(), Host: j.Host, Workload: j.Workload, Policy: j.Workload, Container: j.Container, ContainerId: j.ContainerID,
		Comm: j.Comm, Reason: j.Reason, DstPort: j.DstPort, Pid: j.Pid, Rule: j.Rule, Count: j.Count,
		Verdict: schemas.Verdict(schemas.Verdict_value["VERDICT_"+strings.ToUpper(j.Verdict)]),
		Mode:    schemas.Mode(schemas.Mode_value["MODE_"+strings.ToUpper(j.Mode)]),
		Proto:   map[string]uint32{"tcp": 6, "udp": 17, "icmp": 1, "other": 255}[j.Proto],
	}
	if j.DstIP != "" {
		addr, err := netip.ParseAddr(j.DstIP)
		if err != nil {
			return nil, err
		}
		f.DstIp = addr.AsSlice()
	}
	return f, nil
}

// learnOnce lets the learner look at all that is recorded, and appends what it
// plans until it plans no more.
func learnOnce(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: learn")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ts.Check(learn(ctx, ts.Value(recorderKey{}).(*recorder).log, time.Now()))
}

func learn(ctx context.Context, l *eventlog.Log, now time.Time) error {
	know := learner.New(learner.Options{})
	for e, err := range l.FlowEntries(ctx, 0, false) {
		if err != nil {
			return err
		}
		know.Flows(e.Sequence, e.Flows)
	}
	for {
		for e, err := range l.PolicyEvents(ctx, know.State().Revision()+1, false) {
			if err != nil {
				return err
			}
			know.Policy(e.Revision, e.Event)
		}
		events, err := know.Plan(now)
		if err != nil || len(events) == 0 {
			return err
		}
		last := map[string]uint64{}
		for _, e := range events {
			name := e.GetPolicy()
			if last[name] == 0 {
				last[name] = know.State().LastSequence(name)
			}
			if last[name], err = l.AppendPolicy(ctx, e, last[name]); err != nil {
				return err
			}
		}
	}
}

// findProposal sets a variable to the ID of a proposal.
func findProposal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: proposal VARIABLE FILE TEXT")
	}
	var all []proposalView
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &all))
	for _, p := range all {
		if strings.Contains(p.Rules[0].Text, args[2]) {
			ts.Setenv(args[0], p.ID)
			return
		}
	}
	ts.Fatalf("no proposal has %s", args[2])
}

// appendEvents writes policy events as they are.
func appendEvents(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: append FILE")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l := ts.Value(recorderKey{}).(*recorder).log
	state := policy.NewState()
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		for e, err := range l.PolicyEvents(ctx, state.Revision()+1, false) {
			ts.Check(err)
			state.Apply(e.Revision, e.Event)
		}
		var e schemas.PolicyEvent
		ts.Check(schemas.UnmarshalJSON([]byte(line), &e))
		_, err := l.AppendPolicy(ctx, &e, state.LastSequence(e.GetPolicy()))
		ts.Check(err)
	}
}

// wantCode runs a command and holds its exit code against the number.
func wantCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code NUMBER COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("%s: exit code %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}
