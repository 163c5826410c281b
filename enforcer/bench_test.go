package enforcer

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/testutil/cgroup"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// benchConfig is a host whose gate is on a cgroup of its own, without Docker.
func benchConfig(b *testing.B) Config {
	b.Helper()
	cfg := DefaultConfig()
	cfg.CgroupRoot = cgroup.New(b).Path
	pins, err := os.MkdirTemp("/sys/fs/bpf", "egwbench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { detachAll(b, pins) })
	dir := b.TempDir()
	cfg.Host, cfg.Pins, cfg.Data, cfg.Policies = "bench", pins, filepath.Join(dir, "data"), filepath.Join(dir, "policies")
	cfg.Docker, cfg.NATS.Socket = "unix://"+dir+"/none.sock", filepath.Join(dir, "nats.sock")
	return cfg
}

func detachAll(b *testing.B, pins string) {
	b.Helper()
	if _, err := bpf.Detach(pins); err != nil {
		b.Error(err)
	}
	if err := os.RemoveAll(pins); err != nil {
		b.Error(err)
	}
}

// benchRule is the n-th of many rules that do not overlap.
func benchRule(b *testing.B, n int) policy.Rule {
	b.Helper()
	prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 32)
	r, err := policy.NewRule(policy.ActionAllow, prefix, nil)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func benchRules(b *testing.B, first, n int) []policy.Rule {
	b.Helper()
	rules := make([]policy.Rule, n)
	for i := range rules {
		rules[i] = benchRule(b, first+i)
	}
	return rules
}

// operated is an enforcer at work with one container, and its operator.
type operated struct {
	*Enforcer
	log   *eventlog.Log
	index uint32
	last  uint64
}

func startOperated(b *testing.B) *operated {
	b.Helper()
	cfg, quiet := benchConfig(b), slog.New(slog.DiscardHandler)
	server, err := cfg.StartServer(quiet)
	if err != nil {
		b.Fatal(err)
	}
	e, err := New(cfg, quiet)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx, server) }()
	log, err := eventlog.Connect(b.Context(), server.Options())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		log.Close()
		stop()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		if err := server.Close(); err != nil {
			b.Error(err)
		}
	})
	eventually(b, "the log is folded", func() bool { return e.ledger.read(func(*policy.State) {}) && e.gate.Attached() })
	id := strings.Repeat("a", 64)
	if err := e.registry.Put(description{ID: id, Name: "web", Labels: map[string]string{labelMode: "block"}}); err != nil {
		b.Fatal(err)
	}
	held, err := e.gate.Containers()
	if err != nil {
		b.Fatal(err)
	}
	return &operated{Enforcer: e, log: log, index: held[id]}
}

// change appends an event and waits until the gate judges by it.
func (h *operated) change(b *testing.B, e *schemas.PolicyEvent, probe policy.Rule, want policy.Verdict) time.Duration {
	b.Helper()
	e.Policy, e.Actor, e.TimeNs = "web", "bench", time.Now().UnixNano()
	start := time.Now()
	rev, err := h.log.AppendPolicy(b.Context(), e, h.last)
	if err != nil {
		b.Fatal(err)
	}
	h.last = rev
	for time.Since(start) < time.Minute {
		d, err := h.gate.Judge(h.index, probe.Prefix.Addr(), policy.ProtoTCP, 443)
		if err != nil {
			b.Fatal(err)
		}
		if d.Verdict == want && d.Revision == rev {
			return time.Since(start)
		}
		time.Sleep(50 * time.Microsecond)
	}
	b.Fatal("the change is not in force after a minute")
	return 0
}

// BenchmarkPolicyLive is the time from the operator's append to the policy log
// until the gate in the kernel judges by it: with a server that writes to the
// disk, the follower, the compiler and the real gate between them.
func BenchmarkPolicyLive(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			h := startOperated(b)
			rules := benchRules(b, 0, n)
			h.change(b, &schemas.PolicyEvent{Change: &schemas.PolicyEvent_RuleAdded{
				RuleAdded: &schemas.RuleAdded{Rules: policy.WireRules(rules)},
			}}, rules[n-1], policy.VerdictAllow)
			extra := benchRule(b, n)
			var times []time.Duration
			b.ResetTimer()
			for i := range b.N {
				e, want := &schemas.PolicyEvent{}, policy.VerdictAllow
				if i%2 == 0 {
					e.Change = &schemas.PolicyEvent_RuleAdded{RuleAdded: &schemas.RuleAdded{Rules: policy.WireRules([]policy.Rule{extra})}}
				} else {
					e.Change, want = &schemas.PolicyEvent_RuleRemoved{RuleRemoved: &schemas.RuleRemoved{Ids: []string{extra.ID}}}, policy.VerdictDeny
				}
				times = append(times, h.change(b, e, extra, want))
			}
			b.StopTimer()
			slices.Sort(times)
			b.ReportMetric(ms(times[len(times)/2]), "p50-ms")
			b.ReportMetric(ms(times[len(times)*99/100]), "p99-ms")
		})
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// listedEngine answers for many containers.
type listedEngine struct {
	engine
	list []description
	byID map[string]description
}

func (l *listedEngine) List(context.Context) ([]description, error) { return l.list, nil }

func (l *listedEngine) Inspect(_ context.Context, id string) (description, error) {
	d := l.byID[id]
	d.Detail = &detail{}
	return d, nil
}

// BenchmarkStart is the start of a host with 1,000 blocked containers after its
// power was away: the snapshot is read, every policy compiled and put into an
// empty kernel, Docker's list (an engine in memory) compared, and the gate
// attached. "shared": all are under one policy of 1,000 rules for everyone.
// "own": each has 1,000 rules of its own.
func BenchmarkStart(b *testing.B) {
	const containers, rules = 1000, 1000
	for _, kind := range []string{"shared", "own"} {
		b.Run(kind, func(b *testing.B) {
			cfg := benchConfig(b)
			list := &listedEngine{byID: map[string]description{}}
			for i := range containers {
				id := fmt.Sprintf("%064x", i+1)
				d := description{ID: id, Name: "web-" + strconv.Itoa(i), Labels: map[string]string{labelMode: "block"}}
				list.list, list.byID[id] = append(list.list, d), d
			}
			writeSnapshot(b, cfg, kind, list.list, rules)
			for b.Loop() {
				start(b, cfg, list, kind == "own")
			}
		})
	}
}

func writeSnapshot(b *testing.B, cfg Config, kind string, list []description, n int) {
	b.Helper()
	s := snapshot{Version: snapshotVersion, Fold: 1, Rules: map[string][]policy.Rule{}, Revision: map[string]uint64{}}
	if kind == "shared" {
		s.Rules[policy.Everyone], s.Revision[policy.Everyone] = benchRules(b, 0, n), 1
	}
	for i, d := range list {
		if kind == "own" {
			s.Rules[d.Name], s.Revision[d.Name] = benchRules(b, i*n, n), 1
		}
		s.Containers = append(s.Containers, Container{
			ID: d.ID, Name: d.Name, Workload: d.Name, Index: uint32(i + 1), Label: policy.ModeBlock, Mode: policy.ModeBlock,
		})
	}
	if err := s.write(cfg.snapshotPath()); err != nil {
		b.Fatal(err)
	}
	s = snapshot{}
	debug.FreeOSMemory() // what is measured is the start's own memory
}

// start makes one start in an empty kernel.
func start(b *testing.B, cfg Config, list *listedEngine, own bool) {
	b.Helper()
	quiet := slog.New(slog.DiscardHandler)
	e, err := New(cfg, quiet)
	if err != nil {
		b.Fatal(err)
	}
	w := &watcher{engine: list, registry: e.registry, report: e.report.add, log: quiet, connected: &atomic.Bool{}, settle: time.Minute}
	if err := e.attach(b.Context(), w); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(resident(b), "MiB-resident")
	last := len(list.list)
	probe := netip.AddrFrom4([4]byte{10, 0, 3, 231}) // the 1,000th rule
	if own {
		n := last*1000 - 1
		probe = netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	}
	d, err := e.gate.Judge(uint32(last), probe, policy.ProtoTCP, 443)
	if err != nil || d.Verdict != policy.VerdictAllow {
		b.Errorf("the last rule of the last container is not in force: %+v, %v", d, err)
	}
	if err := e.gate.Close(); err != nil {
		b.Error(err)
	}
	if _, err := bpf.Detach(cfg.Pins); err != nil {
		b.Error(err)
	}
	b.StartTimer()
}

// resident is the memory of this process now, in MiB.
func resident(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kib) / 1024
}
