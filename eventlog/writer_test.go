package eventlog

import (
	"errors"
	"testing"

	"github.com/egresswarden/egresswarden/schemas"
)

func TestEveryFlowIsWrittenOnceAndInOrder(t *testing.T) {
	l := connect(t, startServer(t).Options())
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	if _, ok, err := w.Resume(testContext(t)); ok || err != nil {
		t.Fatalf("resume on an empty stream: ok %v, err %v", ok, err)
	}
	write(t, w, 0, 5000, 37)
	flush(t, w)
	if got, want := w.Acked(), uint64(5000*stride); got != want {
		t.Errorf("acked %d, want %d", got, want)
	}
	wantFlows(t, l, 5000)
}

func TestResumeGoesOnBehindTheLastFlow(t *testing.T) {
	l := connect(t, startServer(t).Options())
	w := l.FlowWriter(testHost, testBoot)
	write(t, w, 0, 100, 100)
	flush(t, w)
	w.Close()

	next := l.FlowWriter(testHost, testBoot)
	defer next.Close()
	position, ok, err := next.Resume(testContext(t))
	if err != nil || !ok || position != 100*stride {
		t.Fatalf("resume gives %d, %v, %v; want %d", position, ok, err, 100*stride)
	}
	write(t, next, 0, 200, 50) // also what the stream holds already
	flush(t, next)
	wantFlows(t, l, 200)

	if _, ok, err := l.FlowWriter(testHost, "boot-b").Resume(testContext(t)); ok || err != nil {
		t.Errorf("resume of another boot: ok %v, err %v", ok, err)
	}
}

func TestAMessageLeftBehindByADeadWriterIsNotWrittenTwice(t *testing.T) {
	l := connect(t, startServer(t).Options())
	ctx := testContext(t)
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	if _, _, err := w.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	// The dead writer's message arrives after the new one has resumed, and
	// covers half of what the new one writes in one go.
	dead := l.FlowWriter(testHost, testBoot)
	write(t, dead, 0, 30, 30)
	flush(t, dead)
	dead.Close()

	write(t, w, 0, 60, 60)
	flush(t, w)
	wantFlows(t, l, 60)
}

func TestAnEmptyWriteMovesThePosition(t *testing.T) {
	l := connect(t, startServer(t).Options())
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	if err := w.Write(testContext(t), nil, 4096); err != nil {
		t.Fatal(err)
	}
	flush(t, w)
	if w.Acked() != 4096 {
		t.Errorf("acked %d, want 4096", w.Acked())
	}
}

func TestFlowsOutOfOrderAreRefused(t *testing.T) {
	l := connect(t, startServer(t).Options())
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	for name, some := range map[string][]*schemas.Flow{
		"backwards":     {flow(2), flow(1)},
		"twice":         {flow(1), flow(1)},
		"behind end":    {flow(50)},
		"no id":         {{}},
		"no id in time": append(make([]*schemas.Flow, 0), flow(1), &schemas.Flow{Id: "x/y/-1"}),
	} {
		if err := w.Write(testContext(t), some, 10*stride); !errors.Is(err, ErrOrder) {
			t.Errorf("%s: got %v, want ErrOrder", name, err)
		}
	}
}

func TestTwoBootsOfAHostFollowEachOther(t *testing.T) {
	l := connect(t, startServer(t).Options())
	for _, boot := range []string{"boot-a", "boot-b"} {
		w := l.FlowWriter(testHost, boot)
		f := flow(1)
		f.Id = schemas.FlowID(testHost, boot, 0)
		if err := w.Write(testContext(t), []*schemas.Flow{f}, stride); err != nil {
			t.Fatal(err)
		}
		flush(t, w)
		w.Close()
	}
	if got := collect(t, l.Flows(testContext(t), FlowQuery{})); len(got) != 2 {
		t.Errorf("got %d flows, want 2", len(got))
	}
}
