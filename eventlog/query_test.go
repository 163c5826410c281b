package eventlog

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/egresswarden/egresswarden/schemas"
)

func TestQueriesGiveWhatTheyAskFor(t *testing.T) {
	l := connect(t, startServer(t).Options())
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	writeSingly(t, w, 0, 100, func(n int) bool { return n%10 == 0 })
	denied := func(f *schemas.Flow) bool { return f.GetVerdict() == schemas.Verdict_VERDICT_DENY }
	for name, test := range map[string]struct {
		query FlowQuery
		want  string
	}{
		"the newest":                {FlowQuery{Last: 3}, "97 98 99 "},
		"the newest that match":     {FlowQuery{Last: 4, Match: denied}, "60 70 80 90 "},
		"fewer than asked for":      {FlowQuery{Last: 1000, Match: denied}, "0 10 20 30 40 50 60 70 80 90 "},
		"all that match":            {FlowQuery{Match: denied}, "0 10 20 30 40 50 60 70 80 90 "},
		"none of another host":      {FlowQuery{Host: "other"}, ""},
		"none older than since":     {FlowQuery{Since: time.Now().Add(time.Hour)}, ""},
		"none of the last by since": {FlowQuery{Since: time.Now().Add(time.Hour), Last: 3}, ""},
		"nothing old":               {FlowQuery{Last: -1}, ""},
	} {
		if got := ids(collect(t, l.Flows(testContext(t), test.query))); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestSinceLooksAtTheFlowsOwnTime(t *testing.T) {
	l := connect(t, startServer(t).Options())
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	some, end := flows(0, 10)
	since := time.Now().Add(-time.Hour)
	some[7].TimeNs, some[9].TimeNs = since.UnixNano(), since.Add(time.Second).UnixNano()
	if err := w.Write(testContext(t), some, end); err != nil {
		t.Fatal(err)
	}
	flush(t, w)
	for _, last := range []int{0, 5} {
		if got := ids(collect(t, l.Flows(testContext(t), FlowQuery{Since: since, Last: last}))); got != "7 9 " {
			t.Errorf("last %d: got %q, want 7 and 9", last, got)
		}
	}
}

func TestAFollowerSeesWhatComesAfterHistory(t *testing.T) {
	l := connect(t, startServer(t).Options())
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	write(t, w, 0, 50, 10)
	flush(t, w)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	n := 48
	for f, err := range l.Flows(ctx, FlowQuery{Last: 2, Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := flow(n).GetId(); f.GetId() != want {
			t.Fatalf("got %s, want %s", f.GetId(), want)
		}
		if n++; n == 50 {
			write(t, w, 50, 60, 10)
		}
		if n == 60 {
			cancel() // ends it without an error
		}
	}
	if n != 60 {
		t.Errorf("ended at %d, want 60", n)
	}
}

func TestOneUnreadableMessageHidesNoOther(t *testing.T) {
	l := connect(t, startServer(t).Options())
	ctx := testContext(t)
	w := l.FlowWriter(testHost, testBoot)
	defer w.Close()
	write(t, w, 0, 10, 10)
	flush(t, w)
	garbage := &nats.Msg{Subject: schemas.FlowSubject("other"), Data: []byte{0xff}}
	if _, err := l.js.PublishMsg(ctx, garbage); err != nil {
		t.Fatal(err)
	}
	write(t, w, 10, 20, 10)
	flush(t, w)
	good, bad := 0, 0
	for _, err := range l.Flows(ctx, FlowQuery{}) {
		switch {
		case err == nil:
			good++
		case errors.Is(err, ErrMessage):
			bad++
		default:
			t.Fatal(err)
		}
	}
	if good != 20 || bad != 1 {
		t.Errorf("%d flows and %d errors, want 20 and 1", good, bad)
	}
}

func TestPolicyEventsAreFollowed(t *testing.T) {
	l := connect(t, startServer(t).Options())
	ctx := testContext(t)
	last := uint64(0)
	for n := range 3 {
		revision, err := l.AppendPolicy(ctx, modeSet("p", schemas.Mode_MODE_LEARN), last)
		if err != nil || revision != uint64(n+1) {
			t.Fatal(revision, err)
		}
		last = revision
	}
	for e, err := range l.PolicyEvents(ctx, 2, true) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Revision == 3 {
			if _, err := l.AppendPolicy(ctx, modeSet("p", schemas.Mode_MODE_BLOCK), 3); err != nil {
				t.Fatal(err)
			}
		}
		if e.Revision == 4 {
			return
		}
	}
	t.Error("the new event did not come")
}
