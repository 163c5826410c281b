package learner

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/egresswarden/egresswarden/schemas"
)

func TestRestartsAndRedeliveryChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		flows := rapid.SliceOfN(rapid.Custom(genFlow), 1, 40).Draw(t, "flows")
		for i, f := range flows {
			f.Id = schemas.FlowID(f.Host, "boot", uint64(8*i))
		}
		straight, shaken := New(Options{}), New(Options{})
		saved, err := shaken.Encode()
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range flows {
			straight.Flows(uint64(i+1), []*schemas.Flow{f})
		}
		for next := 0; next < len(flows); {
			switch rapid.IntRange(0, 4).Draw(t, "event") {
			case 0: // killed: what was not saved is read again
				if shaken, err = Decode(Options{}, saved); err != nil {
					t.Fatal(err)
				}
				next = int(shaken.Covered())
			case 1:
				if saved, err = shaken.Encode(); err != nil {
					t.Fatal(err)
				}
			default:
				shaken.Flows(uint64(next+1), flows[next:next+1])
				// The stream has the host's event a second time.
				again := rapid.IntRange(0, next).Draw(t, "again")
				shaken.evidence.add(flows[again])
				next++
			}
		}
		a, err := straight.Encode()
		if err != nil {
			t.Fatal(err)
		}
		b, err := shaken.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Fatal("the evidence differs")
		}
	})
}

func TestSnapshotThatIsNoneIsRefused(t *testing.T) {
	for _, data := range []string{"", "nonsense"} {
		if l, err := Decode(Options{}, []byte(data)); err == nil || l != nil {
			t.Errorf("%q: decoded", data)
		}
	}
}

func TestEvidenceIsBounded(t *testing.T) {
	l := New(Options{Limits: Limits{Destinations: 10, Names: 5}})
	for i := range 100 {
		l.Flows(uint64(i+1), []*schemas.Flow{flow("192.0.2.1", uint16(i), by(string(rune('a'+i))), after(time.Duration(i)))})
	}
	d := l.evidence.policies["web"]
	if len(d.dests) != 10 || d.beyond != 90 || len(l.evidence.names.list) > 5 || l.evidence.workloads["web"].lost != 90 {
		t.Errorf("%d destinations, %d beyond, %d names", len(d.dests), d.beyond, len(l.evidence.names.list))
	}
}

func BenchmarkFlows(b *testing.B) {
	l := New(Options{})
	flows := make([]*schemas.Flow, 64)
	for i := range flows {
		flows[i] = flow("192.0.2.1", uint16(i%50))
	}
	n := uint64(0)
	for b.Loop() {
		n++
		l.Flows(n, flows)
	}
	b.ReportMetric(float64(b.N)*64/b.Elapsed().Seconds(), "flows/s")
}

// BenchmarkThousandWorkloads is ten million recorded decisions of a thousand
// workloads, and one look for proposals over all of them.
func BenchmarkThousandWorkloads(b *testing.B) {
	for b.Loop() {
		l := New(Options{})
		batch := make([]*schemas.Flow, 0, 1000)
		n := uint64(0)
		for i := range 1_000_000 {
			w := fmt.Sprint("w", i%1000)
			f := flow("", 443, times(10), after(time.Duration(i)*time.Second))
			f.Workload, f.Policy = w, w
			f.DstIp = []byte{198, 51, byte(i / 1000 % 4), byte(i / 1000 * 37 % 251)}
			if batch = append(batch, f); len(batch) == cap(batch) {
				n++
				l.Flows(n, batch)
				batch = batch[:0]
			}
		}
		planning := time.Now()
		events, err := l.Plan(noon.Add(1_000_000 * time.Second))
		if err != nil || len(events) == 0 {
			b.Fatalf("%d events: %v", len(events), err)
		}
		b.ReportMetric(time.Since(planning).Seconds(), "s/plan")
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "MiB")
		b.ReportMetric(float64(l.evidence.total), "destinations")
		runtime.KeepAlive(l)
	}
}
