package bpf

import (
	"slices"
	"testing"
)

func TestTheKernelHasWhatTheGateNeeds(t *testing.T) {
	newFixture(t, nil) // where a gate loads and attaches, nothing is missing
	for _, f := range Features() {
		if f.Err != nil && !f.Optional {
			t.Error(f.Err)
		}
	}
}

func TestPinsNameTheGateThatIsAtWork(t *testing.T) {
	f := newFixture(t, nil)
	pins, err := Pins(f.o.PinDir)
	if err != nil {
		t.Fatal(err)
	}
	if len(pins) != 1 || pins[0].Layout != Layout {
		t.Fatalf("pins: %+v", pins)
	}
	for _, name := range LinkNames() {
		if !slices.Contains(pins[0].Links, name) {
			t.Errorf("link %s is missing of %v", name, pins[0].Links)
		}
	}
	none, err := Pins(f.o.PinDir + "-none")
	if err != nil || len(none) != 0 {
		t.Errorf("pins of no gate: %v, %v", none, err)
	}
}

func TestProgramsOfOthersAreNamed(t *testing.T) {
	f := newFixture(t, nil)
	others, err := f.OtherPrograms(f.cgroup)
	if err != nil {
		t.Fatal(err)
	}
	before := len(others)     // this machine may have some at its root
	again := openGate(t, f.o) // loads programs of its own beside the attached ones
	if seen, err := again.OtherPrograms(f.cgroup); err != nil || len(seen) != before {
		t.Errorf("a second process takes the gate for another's: %+v, %v", seen, err)
	}
	second := f.o
	second.PinDir += "-second"
	second.CgroupRoot = newCgroup(t, f.cgroup)
	t.Cleanup(func() {
		if _, err := Detach(second.PinDir); err != nil {
			t.Error(err)
		}
	})
	g := openGate(t, second)
	if err := g.Attach(); err != nil {
		t.Fatal(err)
	}
	if others, err = f.OtherPrograms(second.CgroupRoot); err != nil {
		t.Fatal(err)
	}
	own := len(LinkNames()) - 2 // the tracepoints are on no cgroup
	if len(others) != before+own {
		t.Errorf("others: %+v, want the %d of the second gate besides %d", others, own, before)
	}
	if !slices.ContainsFunc(others, func(o OtherProgram) bool { return o.Hook == "connect_v4" && o.Name == "connect_v4" }) {
		t.Errorf("others: %+v, want one named connect_v4", others)
	}
}

func TestStatisticsCountRuns(t *testing.T) {
	f := newFixture(t, nil)
	f.blockAll(t)
	stats, err := EnableStats()
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Close()
	before, err := f.ProgramStats()
	if err != nil {
		t.Fatal(err)
	}
	flood(t, 1, 100, 1)
	after, err := f.ProgramStats()
	if err != nil {
		t.Fatal(err)
	}
	if got := after["sendmsg_v4"].Runs - before["sendmsg_v4"].Runs; got < 100 {
		t.Errorf("sendmsg_v4 ran %d times, want 100 at least", got)
	}
	if after["sendmsg_v4"].Time <= before["sendmsg_v4"].Time {
		t.Errorf("time of sendmsg_v4: %v, then %v", before["sendmsg_v4"].Time, after["sendmsg_v4"].Time)
	}
}
