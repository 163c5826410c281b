package eventlog

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/schemas"
)

func modeSet(policy string, mode schemas.Mode) *schemas.PolicyEvent {
	return &schemas.PolicyEvent{
		Actor: "alice", Policy: policy, TimeNs: 1,
		Change: &schemas.PolicyEvent_ModeSet{ModeSet: &schemas.ModeSet{Workload: policy, Mode: mode}},
	}
}

func TestAStalePolicyEventIsRefused(t *testing.T) {
	l := connect(t, startServer(t).Options())
	ctx := testContext(t)
	first, err := l.AppendPolicy(ctx, modeSet("shop/web", schemas.Mode_MODE_BLOCK), 0)
	if err != nil || first != 1 {
		t.Fatalf("first append: revision %d, %v", first, err)
	}
	if _, err := l.AppendPolicy(ctx, modeSet("*", schemas.Mode_MODE_LEARN), 0); err != nil {
		t.Fatalf("another policy's first append: %v", err)
	}
	if _, err := l.AppendPolicy(ctx, modeSet("shop/web", schemas.Mode_MODE_LEARN), 0); !errors.Is(err, ErrStale) {
		t.Errorf("append on an old revision: %v, want ErrStale", err)
	}
	third, err := l.AppendPolicy(ctx, modeSet("shop/web", schemas.Mode_MODE_LEARN), first)
	if err != nil || third != 3 {
		t.Errorf("append on the right revision: %d, %v", third, err)
	}
	got := collect(t, l.PolicyEvents(ctx, 0, false))
	if len(got) != 3 || got[1].Event.GetPolicy() != "*" || got[2].Revision != 3 {
		t.Errorf("policy log is %v", got)
	}
	if got := collect(t, l.PolicyEvents(ctx, 3, false)); len(got) != 1 || got[0].Revision != 3 {
		t.Errorf("policy log from revision 3 is %v", got)
	}
	if got := collect(t, l.PolicyEvents(ctx, 4, false)); len(got) != 0 {
		t.Errorf("policy log from revision 4 is %v", got)
	}
}

func TestAnEventThatIsTooLargeNamesTheCure(t *testing.T) {
	l := connect(t, startServer(t).Options())
	e := modeSet("shop/web", schemas.Mode_MODE_BLOCK)
	e.Reason = strings.Repeat("x", maxPayload)
	_, err := l.AppendPolicy(testContext(t), e, 0)
	if err == nil || !strings.Contains(err.Error(), "the 8388608 that the server takes as one event: make it smaller") {
		t.Errorf("append: %v", err)
	}
}

func TestTheEmbeddedServerSyncsThePolicyLog(t *testing.T) {
	s := startServer(t)
	l := connect(t, s.Options())
	ctx := testContext(t)
	if _, err := l.AppendPolicy(ctx, modeSet("p", schemas.Mode_MODE_BLOCK), 0); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(s.options.Dir, "jetstream", "*", "streams", schemas.StreamPolicy, "msgs", "*.blk"))
	if err != nil || len(found) == 0 {
		t.Fatalf("the files that are synced are elsewhere: %v, %v", found, err)
	}
	if _, err := l.nc.RequestWithContext(ctx, syncSubject, nil); err != nil {
		t.Errorf("nobody answers: %v", err)
	}
	if err := syncStreams(s.options.Dir, schemas.StreamPolicy); err != nil {
		t.Errorf("sync: %v", err)
	}
	if err := syncStreams(t.TempDir(), schemas.StreamPolicy); err == nil {
		t.Error("the sync of a log that is not there succeeded")
	}
}

func TestThePolicyLogCannotBeDeleted(t *testing.T) {
	l := connect(t, startServer(t).Options())
	ctx := testContext(t)
	if _, err := l.AppendPolicy(ctx, modeSet("p", schemas.Mode_MODE_BLOCK), 0); err != nil {
		t.Fatal(err)
	}
	stream, err := l.js.Stream(ctx, schemas.StreamPolicy)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(ctx, 1); err == nil {
		t.Error("a policy event was deleted")
	}
	if err := stream.Purge(ctx); err == nil {
		t.Error("the policy log was purged")
	}
}
