package vmtest

import (
	"os"
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
