package bpf

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"github.com/egresswarden/egresswarden/policy"
)

const benchPrefixes = 100_000

// benchTable has that many random prefixes among the loopback addresses.
func benchTable() *policy.Table {
	r := rand.New(rand.NewPCG(1, 2))
	t := &policy.Table{}
	seen := make(map[netip.Prefix]bool)
	for len(t.Prefixes) < benchPrefixes {
		p := netip.PrefixFrom(netip.AddrFrom4(loopback(r.IntN(8<<20))), 22+r.IntN(11)).Masked()
		if seen[p] {
			continue
		}
		seen[p] = true
		t.Prefixes = append(t.Prefixes, policy.PrefixEntry{
			Prefix: p, Match: policy.Match{Action: policy.ActionAllow, Rule: uint32(100 + len(t.Prefixes))},
		})
	}
	return t
}

// BenchmarkDecision reports the program's time by the kernel's own statistics,
// for a destination that the flow table knows and for one that it does not.
func BenchmarkDecision(b *testing.B) {
	for _, c := range []struct {
		name  string
		dests int
	}{{"known", 1000}, {"new", 1 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			f := newFixture(b, func(o *Options) { o.FlowEntries = 1 << 20; o.RingBytes = 16 << 20 })
			f.putPolicy(b, 1, benchTable(), 1)
			f.manage(b, 1, State{Mode: policy.ModeBlock, Slot: 1, HostNetwork: true})
			if c.name == "known" {
				flood(b, 1, c.dests, 1)
			}
			stats, err := EnableStats()
			if err != nil {
				b.Fatal(err)
			}
			defer stats.Close()
			before := programTime(b, f)
			l := newLedger()
			b.ResetTimer()
			for done := 0; done < b.N; done += c.dests {
				flood(b, 1, min(c.dests, b.N-done), 1)
				b.StopTimer()
				if c.name == "new" {
					l.settle(b, f.Gate)
				}
				b.StartTimer()
			}
			after := programTime(b, f)
			b.ReportMetric(float64(after.Time-before.Time)/float64(after.Runs-before.Runs), "ns/decision")
		})
	}
}

func programTime(b *testing.B, f *fixture) ProgramStat {
	b.Helper()
	stats, err := f.ProgramStats()
	if err != nil {
		b.Fatal(err)
	}
	return stats["sendmsg_v4"]
}

// BenchmarkFlood reports denied sends per second, with a reader that sweeps,
// and fails unless every one is accounted.
func BenchmarkFlood(b *testing.B) {
	for _, c := range []struct {
		name  string
		dests int
	}{{"repeated", 1000}, {"distinct", 1 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			f := newFixture(b, func(o *Options) { o.RingBytes = 16 << 20 })
			f.manage(b, 1, State{Mode: policy.ModeBlock, HostNetwork: true})
			l := newLedger()
			ctx, stop := context.WithCancel(b.Context())
			var wg sync.WaitGroup
			wg.Go(func() { l.rounds(ctx, b, f.Gate) })
			b.ResetTimer()
			sent := uint64(0)
			for sent < uint64(b.N) {
				o := flood(b, 2, min(c.dests, b.N-int(sent)), 1)
				sent += o.refused
			}
			b.StopTimer()
			stop()
			wg.Wait()
			l.settle(b, f.Gate)
			if got := l.check(b, f.Gate, 1); got.Deny != sent {
				b.Errorf("%d sends, counters %+v", sent, got)
			}
			b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "decisions/s")
			b.ReportMetric(float64(l.over)/float64(sent), "overflow/decision")
		})
	}
}
