package eventlog

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/schemas"
)

// BenchmarkRingToJetStream is the way of the flows from the decoded ring to the
// acknowledgement of a stream in a file.
func BenchmarkRingToJetStream(b *testing.B) {
	for name, run := range map[string]int{"runs-of-64": 64, "runs-of-1024": 1024} {
		b.Run(name, func(b *testing.B) { benchmarkWrite(b, run) })
	}
}

func benchmarkWrite(b *testing.B, run int) {
	s := startServer(b)
	l := connect(b, s.Options())
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	some, _ := flows(0, run)
	ctx := testContext(b)
	position, before := uint64(0), cpuTime(b)
	b.ResetTimer()
	for n := 0; n < b.N; n += run {
		for _, f := range some {
			f.Id = schemas.FlowID(testHost, testBoot, position)
			position += stride
		}
		if err := w.Write(ctx, some, position); err != nil {
			b.Fatal(err)
		}
	}
	flush(b, w)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(b.N)/(cpuTime(b)-before).Seconds(), "events/core-s")
}

// cpuTime is what this process has used, client and server.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRead is the way back.
func BenchmarkRead(b *testing.B) {
	l := connect(b, startServer(b).Options())
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	write(b, w, 0, 100_000, 1024)
	flush(b, w)
	b.ResetTimer()
	n := 0
	for n < b.N {
		for _, err := range l.Flows(testContext(b), FlowQuery{}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}
