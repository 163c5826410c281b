package eventlog

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/schemas"
)

const testDeadline = 3 * time.Minute

// testContext ends before the test binary's own deadline would.
func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	t.Cleanup(cancel)
	return ctx
}

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testOutput{t}, nil))
}

type testOutput struct{ t testing.TB }

// Write logs a line, unless the test is over: a server ends a little later.
func (o testOutput) Write(p []byte) (int, error) {
	if o.t.Context().Err() == nil {
		o.t.Logf("%s", p)
	}
	return len(p), nil
}

// startServer runs an embedded server for the test.
func startServer(t testing.TB, change ...func(*ServerOptions)) *Server {
	t.Helper()
	o := ServerOptions{Dir: filepath.Join(t.TempDir(), "nats"), Log: testLog(t)}
	for _, f := range change {
		f(&o)
	}
	s, err := StartServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close server: %v", err)
		}
	})
	return s
}

func connect(t testing.TB, o Options) *Log {
	t.Helper()
	if o.Log == nil {
		o.Log = testLog(t)
	}
	l, err := Connect(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

const (
	testHost = "web-1.example.org"
	testBoot = "boot-a"
	stride   = 128 // of positions in the test's rings
)

// flow is the nth of a ring whose records are a stride apart.
func flow(n int) *schemas.Flow {
	return &schemas.Flow{
		Id: schemas.FlowID(testHost, testBoot, uint64(n)*stride), TimeNs: int64(n+1) * 1e9, Host: testHost,
		Verdict: schemas.Verdict_VERDICT_ALLOW, Count: 1, Workload: "shop/web", Policy: "shop/web",
		Container: "shop-web-1", ContainerId: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		Image: "registry.example.org/shop/web:1", Mode: schemas.Mode_MODE_BLOCK, Proto: 6, Revision: 7, Rule: 0xabcdef01,
		DstIp: []byte{198, 51, 100, byte(n)}, DstPort: 443, SrcIp: []byte{172, 17, 0, 2}, SrcPort: 40000,
		Pid: 4711, Uid: 1000, Comm: "curl", Hook: "connect", CgroupId: 12345,
	}
}

// flows are those from the first to before the last, and the position behind.
func flows(first, last int) ([]*schemas.Flow, uint64) {
	var some []*schemas.Flow
	for n := first; n < last; n++ {
		some = append(some, flow(n))
	}
	return some, uint64(last) * stride
}

// write gives flows to the writer in runs of a few.
func write(t testing.TB, w *FlowWriter, first, last, run int) {
	t.Helper()
	ctx := testContext(t)
	for ; first < last; first += run {
		some, end := flows(first, min(first+run, last))
		if err := w.Write(ctx, some, end); err != nil {
			t.Fatal(err)
		}
	}
}

func flush(t testing.TB, w *FlowWriter) {
	t.Helper()
	if err := w.Flush(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

// wantFlows fails unless the stream holds exactly the flows before last, each
// once and in order.
func wantFlows(t testing.TB, l *Log, last int) {
	t.Helper()
	n := 0
	for f, err := range l.Flows(testContext(t), FlowQuery{Host: testHost}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := flow(n).GetId(); f.GetId() != want {
			t.Fatalf("flow %d of the stream is %s, want %s", n, f.GetId(), want)
		}
		n++
	}
	if n != last {
		t.Fatalf("stream holds %d flows, want %d", n, last)
	}
}

func collect[T any](t testing.TB, seq func(func(T, error) bool)) []T {
	t.Helper()
	var all []T
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

func ids(some []*schemas.Flow) string {
	text := ""
	for _, f := range some {
		position, _ := schemas.FlowPosition(f.GetId())
		text += fmt.Sprint(position/stride, " ")
	}
	return text
}
