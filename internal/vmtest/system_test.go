package vmtest

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestCodeBlock(t *testing.T) {
	const text = "# A\n```\nfirst\n```\n## B\nwords\n```\none\ntwo\n```\n```\nlast\n```\n## C\n"
	if got, err := codeBlock(text, "## B"); err != nil || got != "one\ntwo\n" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, heading := range []string{"## C", "## D"} {
		if got, err := codeBlock(text, heading); err == nil {
			t.Errorf("below %q there is %q", heading, got)
		}
	}
}

func TestPartPicksBoots(t *testing.T) {
	for pattern, want := range map[string]int{"": len(boots), "boot": 2, "^e2e$": 1, "none": 0} {
		if got := (Part{Boots: regexp.MustCompile(pattern)}).boots(); len(got) != want {
			t.Errorf("%q picks %v", pattern, got)
		}
	}
	if got := (Part{}).boots(); len(got) != len(boots) {
		t.Errorf("nothing picks %v", got)
	}
}

func TestTheManualSaysHowToInstall(t *testing.T) {
	manual, err := os.ReadFile("../../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	block, err := codeBlock(string(manual), "## Install")
	if err != nil || !strings.Contains(block, "systemctl enable --now egw-enforcer\n") {
		t.Errorf("it says %q, %v", block, err)
	}
}
