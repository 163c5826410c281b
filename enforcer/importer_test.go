package enforcer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/policy"
)

// look makes the fold equal to the log and lets the importer look at once.
func (st *station) look(t *testing.T, im *importer, now time.Time) *policy.State {
	t.Helper()
	st.ledger.put(foldAll(t, st.events))
	im.lookAt(t.Context(), now)
	state := foldAll(t, st.events)
	st.ledger.put(state)
	return state
}

func texts(state *policy.State, name string) string {
	var out []string
	for _, r := range state.Policy(name).Rules {
		out = append(out, r.String())
	}
	return strings.Join(out, ", ")
}

func wantRules(t *testing.T, state *policy.State, name, want string) {
	t.Helper()
	if got := texts(state, name); got != want {
		t.Errorf("policy %s is %q, want %q", name, got, want)
	}
}

func TestAnAllowListIsImportedWhenItChanges(t *testing.T) {
	st := newStation(t)
	im := newImporter(st.Enforcer, st.events)
	now := time.Now()
	write(t, st.cfg.Policies, "web.rules", "192.0.2.0/24\n")
	write(t, st.cfg.Policies, "%2A.rules", "deny 169.254.169.254\n")
	state := st.look(t, im, now)
	wantRules(t, state, "web", "192.0.2.0/24")
	wantRules(t, state, policy.Everyone, "deny 169.254.169.254/32")
	if again := st.look(t, im, now); again.Revision() != state.Revision() {
		t.Error("a file that did not change was imported again")
	}
	write(t, st.cfg.Policies, "web.rules", "198.51.100.0/24\n")
	wantRules(t, st.look(t, im, now), "web", "198.51.100.0/24")
}

func TestABrokenAllowListKeepsTheLastGoodAndIsToldOnce(t *testing.T) {
	st := newStation(t)
	im := newImporter(st.Enforcer, st.events)
	write(t, st.cfg.Policies, "web.rules", "192.0.2.0/24\n")
	st.look(t, im, time.Now())
	write(t, st.cfg.Policies, "web.rules", "192.0.2.0/24\n10.0.0.1/8\n")
	for i := range 3 {
		wantRules(t, st.look(t, im, time.Now().Add(time.Duration(i)*time.Hour)), "web", "192.0.2.0/24")
	}
	if n := st.told("policy.invalid"); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
	if p := st.problems.list(); len(p) != 1 || !strings.Contains(p[0], "web.rules:2:") {
		t.Errorf("problems %v do not name the line", p)
	}
	write(t, st.cfg.Policies, "web.rules", "198.51.100.0/24\n")
	wantRules(t, st.look(t, im, time.Now()), "web", "198.51.100.0/24")
	if p := st.problems.list(); len(p) != 0 {
		t.Errorf("problems after the cure: %v", p)
	}
}

func TestARemovedAllowListTakesItsRulesWhenItStaysAway(t *testing.T) {
	st := newStation(t)
	im := newImporter(st.Enforcer, st.events)
	now := time.Now()
	path := filepath.Join(st.cfg.Policies, "web.rules")
	write(t, st.cfg.Policies, "web.rules", "192.0.2.0/24\n")
	st.look(t, im, now)
	st.appendTo(t, "web", "203.0.113.0/24")
	if err := os.Rename(path, path+"~"); err != nil { // an editor does so
		t.Fatal(err)
	}
	wantRules(t, st.look(t, im, now), "web", "192.0.2.0/24, 203.0.113.0/24")
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
	st.look(t, im, now.Add(time.Hour))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantRules(t, st.look(t, im, now.Add(2*time.Hour)), "web", "192.0.2.0/24, 203.0.113.0/24")
	state := st.look(t, im, now.Add(2*time.Hour+goneFor))
	wantRules(t, state, "web", "203.0.113.0/24")
	if again := st.look(t, im, now.Add(3*time.Hour)); again.Revision() != state.Revision() {
		t.Error("removed again and again")
	}
}

func TestAFolderThatIsGoneTakesNoRuleAway(t *testing.T) {
	st := newStation(t)
	im := newImporter(st.Enforcer, st.events)
	write(t, st.cfg.Policies, "web.rules", "192.0.2.0/24\n")
	st.look(t, im, time.Now())
	if err := os.RemoveAll(st.cfg.Policies); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		wantRules(t, st.look(t, im, time.Now().Add(time.Duration(i)*time.Hour)), "web", "192.0.2.0/24")
	}
	if st.told("policy.invalid") != 1 {
		t.Error("not told once")
	}
}

func TestTwoFilesOfOnePolicyDoNotTakeTurns(t *testing.T) {
	st := newStation(t)
	im := newImporter(st.Enforcer, st.events)
	write(t, st.cfg.Policies, "%2A.rules", "192.0.2.0/24\n")
	write(t, st.cfg.Policies, "*.rules", "198.51.100.0/24\n")
	state := st.look(t, im, time.Now())
	if again := st.look(t, im, time.Now()); again.Revision() != state.Revision() {
		t.Error("the files are imported in turns")
	}
	if st.told("policy.invalid") != 1 {
		t.Error("the second file is not told once")
	}
}

func TestHostsWithDifferentFilesDoNotTakeTurns(t *testing.T) {
	st := newStation(t)
	other := &station{Enforcer: newBare(t, "web-2", newFakeKernel()), events: st.events}
	other.cfg.Policies = st.cfg.Policies + "-2" // the same path on another host
	here, there := newImporter(st.Enforcer, st.events), newImporter(other.Enforcer, st.events)
	write(t, st.cfg.Policies, "web.rules", "192.0.2.0/24\n")
	write(t, other.cfg.Policies, "web.rules", "198.51.100.0/24\n")
	write(t, other.cfg.Policies, "only-there.rules", "198.51.100.0/24\n")
	now := time.Now()
	for i := range 4 {
		st.look(t, here, now.Add(time.Duration(i)*time.Hour))
		other.look(t, there, now.Add(time.Duration(i)*time.Hour))
	}
	state := foldAll(t, st.events)
	wantRules(t, state, "web", "192.0.2.0/24")
	wantRules(t, state, "only-there", "198.51.100.0/24")
	if state.Revision() != 2 {
		t.Errorf("%d events, want one for each policy", state.Revision())
	}
	if other.told("policy.invalid") != 1 {
		t.Error("the conflict is not told once")
	}
	write(t, other.cfg.Policies, "web.rules", "203.0.113.0/24\n")
	wantRules(t, other.look(t, there, now), "web", "203.0.113.0/24")
	for i := range 3 {
		st.look(t, here, now.Add(time.Duration(i)*time.Hour))
		wantRules(t, other.look(t, there, now), "web", "203.0.113.0/24")
	}
}

func TestAnImportThatLosesARaceComesNext(t *testing.T) {
	st := newStation(t)
	im := newImporter(st.Enforcer, st.events)
	write(t, st.cfg.Policies, "web.rules", "192.0.2.0/24\n")
	st.ledger.put(foldAll(t, st.events))
	st.appendTo(t, "web", "203.0.113.0/24") // after the fold, before the import
	im.lookAt(t.Context(), time.Now())
	if p := st.problems.list(); len(p) != 0 {
		t.Errorf("losing is a problem: %v", p)
	}
	wantRules(t, foldAll(t, st.events), "web", "203.0.113.0/24")
	wantRules(t, st.look(t, im, time.Now()), "web", "192.0.2.0/24, 203.0.113.0/24")
}

func TestAWatchedFolderReachesTheGate(t *testing.T) {
	st := newStation(t)
	put(t, st.registry, labelled("a", "block"))
	st.followLog(t)
	background(t, func(ctx context.Context) error { return st.watchFolder(ctx, st.events) })
	write(t, st.cfg.Policies, "name-a.rules", "192.0.2.0/24\n")
	eventually(t, "the list is in force", func() bool { return allows(st.kernel, "a") })
	write(t, st.cfg.Policies, "name-a.rules", "198.51.100.0/24\n")
	eventually(t, "the change is in force", func() bool { return !allows(st.kernel, "a") })
}

func TestALongAllowListIsOneEvent(t *testing.T) {
	st := newStation(t)
	im := newImporter(st.Enforcer, st.events)
	var text strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&text, "10.%d.%d.0/24 tcp/443,udp/443\n", i/256, i%256)
	}
	write(t, st.cfg.Policies, "web.rules", text.String())
	if n := len(st.look(t, im, time.Now()).Policy("web").Rules); n != 10_000 {
		t.Errorf("%d rules, want 10,000; problems: %v", n, st.problems.list())
	}
}

func TestAFileInPlaceOfTheFolderTakesNoRule(t *testing.T) {
	st := newStation(t)
	im := newImporter(st.Enforcer, st.events)
	write(t, st.cfg.Policies, "web.rules", "192.0.2.0/24\n")
	st.look(t, im, time.Now())
	if err := os.RemoveAll(st.cfg.Policies); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Dir(st.cfg.Policies), filepath.Base(st.cfg.Policies), "192.0.2.0/24\n")
	for i := range 3 {
		wantRules(t, st.look(t, im, time.Now().Add(time.Duration(i)*time.Hour)), "web", "192.0.2.0/24")
	}
	if p := st.problems.list(); len(p) != 1 {
		t.Errorf("problems %v, want the folder's", p)
	}
}
