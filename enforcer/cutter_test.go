package enforcer

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/policy"
)

func job(revision uint64, keep map[string]bool) cutJob {
	return cutJob{from: revision, to: revision, keep: keep}
}

func TestJobsThatWaitAreJoinedAndToCutIsStronger(t *testing.T) {
	var c cutter
	c.add(job(3, map[string]bool{"a": true, "b": true}))
	c.add(job(5, map[string]bool{"a": false, "c": true}))
	c.add(job(6, map[string]bool{"a": true}))
	c.add(job(7, nil))
	j := c.take()
	want := map[string]bool{"a": false, "b": true, "c": true}
	if j == nil || j.from != 3 || j.to != 6 || !maps.Equal(j.keep, want) {
		t.Errorf("the joined job: %+v, want revisions 3 to 6 with %v", j, want)
	}
	if again := c.take(); again != nil {
		t.Errorf("a job is done twice: %+v", again)
	}
}

func TestWhatARevisionDidIsKnownWhenItIsDone(t *testing.T) {
	var c cutter
	known := func(revision uint64) bool {
		_, _, ok, _ := c.of(revision)
		return ok
	}
	c.begin()
	c.add(job(3, map[string]bool{"a": false}))
	c.reach(4)
	if known(3) || known(5) || !known(4) {
		t.Error("want revision 4 known, 3 to be waited for, 5 not in force")
	}
	j := c.take()
	if known(3) {
		t.Error("known before it is done")
	}
	wait := make(chan error, 1)
	go func() {
		cut, kept, err := c.wait(t.Context(), 3)
		if cut != 2 || kept != 1 {
			err = errors.Join(err, errors.New("want 2 cut and 1 kept"))
		}
		wait <- err
	}()
	j.cut, j.kept = 2, 1
	c.done(j)
	if err := <-wait; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, _, err := c.wait(ctx, 9); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a revision that is not in force: %v", err)
	}
}

func TestNothingIsKnownBeforeTheLogAndTheFilesAreInForce(t *testing.T) {
	var c cutter
	c.reach(7)
	if _, _, ok, _ := c.of(7); ok {
		t.Error("known")
	}
	if !c.begin() || c.begin() {
		t.Error("want to begin once")
	}
	if _, _, ok, _ := c.of(7); !ok {
		t.Error("not known")
	}
}

// running makes a container one that was seen to run.
func running(t *testing.T, r *registry, id, mode string) {
	t.Helper()
	put(t, r, labelled(id, mode))
	r.containers[id].cgroup = "/gone"
}

func TestARevisionAsksForItsWorkloadsInBlockAlone(t *testing.T) {
	st := newStation(t)
	running(t, st.registry, "web", "block")
	running(t, st.registry, "db", "block")
	running(t, st.registry, "free", "learn")
	put(t, st.registry, labelled("new", "block")) // not seen to run
	st.appendTo(t, "other", "10.9.0.0/16")
	st.followLog(t)
	inForce := func(rev uint64) {
		t.Helper()
		eventually(t, "the revision is in force", func() bool { return st.ledger.standing().revision == rev })
	}
	inForce(1)
	if j := st.cutter.take(); j != nil {
		t.Fatalf("asked before all is in force: %+v", j)
	}
	st.startOver()
	if j := st.cutter.take(); j == nil || len(j.keep) != 2 {
		t.Fatalf("at the start: %+v, want web and db", j)
	}
	rev := st.appendTo(t, "name-web", "10.0.0.0/8")
	inForce(rev)
	if j := st.cutter.take(); j == nil || j.from != rev || !maps.Equal(j.keep, map[string]bool{"web": false}) {
		t.Errorf("for a rule of web: %+v", j)
	}
	rev = st.appendTo(t, policy.Everyone, "10.1.0.0/16")
	inForce(rev)
	if j := st.cutter.take(); j == nil || len(j.keep) != 2 {
		t.Errorf("for a rule of everyone: %+v, want web and db", j)
	}
	st.covered("web")
	if j := st.cutter.take(); j == nil || !maps.Equal(j.keep, map[string]bool{"web": false}) {
		t.Errorf("for cgroups of web: %+v", j)
	}
}

func TestTheLaterOfOwnAndEveryonesChangeSaysWhatIsKept(t *testing.T) {
	for name, c := range map[string]struct {
		own, all policy.Effect
		want     bool
	}{
		"none":              {},
		"own kept":          {own: policy.Effect{Revision: 2, Keep: true}, all: policy.Effect{Revision: 1}, want: true},
		"everyone's later":  {own: policy.Effect{Revision: 2, Keep: true}, all: policy.Effect{Revision: 3}},
		"everyone's kept":   {own: policy.Effect{Revision: 2}, all: policy.Effect{Revision: 3, Keep: true}, want: true},
		"own later, to cut": {own: policy.Effect{Revision: 4}, all: policy.Effect{Revision: 3, Keep: true}},
	} {
		set := policySet{Effect: map[string]policy.Effect{"web": c.own, policy.Everyone: c.all}}
		if got := set.keeps("web"); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestWhoAsksWhatARevisionDidIsAnswered(t *testing.T) {
	st := newStation(t)
	st.cutter.begin()
	st.cutter.reach(4)
	st.cutter.done(&cutJob{from: 3, to: 4, cut: 5, kept: 1})
	data, err := st.answerApplied(t.Context(), []byte(`{"revision":4}`))
	if err != nil {
		t.Fatal(err)
	}
	var got Applied
	if err := DecodeAnswer(data, &got); err != nil || got != (Applied{Cut: 5, Kept: 1}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := st.answerApplied(t.Context(), []byte(`{`)); err == nil {
		t.Error("a broken question is answered")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := st.answerApplied(ctx, []byte(`{"revision":9}`)); err == nil {
		t.Error("a revision to come is answered")
	}
}
