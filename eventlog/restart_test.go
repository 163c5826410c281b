package eventlog

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/schemas"
)

// replaced is a way to whichever server runs at the time.
type replaced struct {
	mu     sync.Mutex
	server *Server
}

func (r *replaced) InProcessConn() (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.server.InProcessConn()
}

func TestNoFlowIsLostWhenTheEmbeddedServerIsReopened(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "nats")
	start := func() *Server {
		return startServer(t, func(o *ServerOptions) { o.Dir = dir })
	}
	way := &replaced{server: start()}
	l := connect(t, Options{InProcess: way})
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	const rounds, each = 5, 2000
	for round := range rounds {
		write(t, w, round*each, (round+1)*each, 7)
		if err := way.server.Close(); err != nil {
			t.Fatal(err)
		}
		next := start()
		way.mu.Lock()
		way.server = next
		way.mu.Unlock()
	}
	flush(t, w)
	wantFlows(t, l, rounds*each)
}

func TestNoFlowIsLostWhenTheServerIsKilled(t *testing.T) {
	o := newOutside(t)
	server := o.start(t)
	l := connect(t, o.options())
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	const rounds, each = 5, 2000
	for round := range rounds {
		write(t, w, round*each, (round+1)*each, 7)
		server.kill()
		server = o.start(t)
	}
	flush(t, w)
	wantFlows(t, l, rounds*each)
}

func TestNoFlowIsLostWhenTheWriterIsKilled(t *testing.T) {
	o := newOutside(t)
	o.start(t)
	l := connect(t, o.options())
	const last = 20_000
	kills := 0
	for part := last / 10; ; part += last / 10 {
		writer := run(t, envWriter+"="+o.socket, envFlows+"="+strconv.Itoa(last))
		if part >= last {
			if err := writer.Wait(); err != nil {
				t.Fatal(err)
			}
			break
		}
		// Kill it as soon as the stream holds this part, or more.
		for f, err := range l.Flows(testContext(t), FlowQuery{Follow: true}) {
			if err != nil {
				t.Fatal(err)
			}
			if position, _ := schemas.FlowPosition(f.GetId()); position/stride >= uint64(part) {
				break
			}
		}
		writer.kill()
		kills++
	}
	t.Logf("killed %d writers", kills)
	wantFlows(t, l, last)
}

func TestAFollowerSurvivesTheServersDeath(t *testing.T) {
	o := newOutside(t)
	server := o.start(t)
	l := connect(t, o.options())
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	const rounds, each = 3, 500
	n := 0
	write(t, w, 0, each, 10)
	for f, err := range l.Flows(testContext(t), FlowQuery{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := flow(n).GetId(); f.GetId() != want {
			t.Fatalf("flow %d is %s, want %s", n, f.GetId(), want)
		}
		n++
		if n == rounds*each {
			break
		}
		if n%each == 0 { // seen all there is: the next come after a restart
			server.kill()
			server = o.start(t)
			write(t, w, n, n+each, 10)
		}
	}
	if n != rounds*each {
		t.Errorf("saw %d flows, want %d", n, rounds*each)
	}
}

func TestAFullDiskLosesNothing(t *testing.T) {
	o := newOutside(t)
	server := o.start(t)
	l := connect(t, o.options())
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	write(t, w, 0, 1000, 100)
	flush(t, w)

	// From now on no file of the server grows beyond what the flows have.
	limit := func(bytes uint64) {
		l := unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}
		if err := unix.Prlimit(server.Process.Pid, unix.RLIMIT_FSIZE, &l, nil); err != nil {
			t.Fatal(err)
		}
	}
	limit(uint64(flowFileSize(t, o.dir)) + 10_000)
	write(t, w, 1000, 3000, 100)
	if line, err := server.out.ReadString('\n'); err != nil || !strings.HasPrefix(line, "failed: ") {
		t.Fatalf("server says %q, %v; want that it failed", line, err)
	}
	limit(unix.RLIM_INFINITY)
	flush(t, w)
	wantFlows(t, l, 3000)
}

// flowFileSize is the size of the largest file of the flows.
func flowFileSize(t *testing.T, dir string) int64 {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", schemas.StreamFlows, "msgs", "*.blk"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no files of the flows: %v", err)
	}
	var size int64
	for _, name := range found {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		size = max(size, info.Size())
	}
	return size
}
