package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

// terminal gives both ends of one, on which an answer was typed.
func terminal(t *testing.T, typed string) *os.File {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	screen, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	if _, err := keys.WriteString(typed); err != nil {
		t.Fatal(err)
	}
	return screen
}

// typed runs a command line at a terminal.
func typed(t *testing.T, answer string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(args, terminal(t, answer), &stdout, &stderr, func(string) string { return "" })
	return result{code, stdout.String(), stderr.String()}
}

func TestARollbackThatOpensIsShownAndAsked(t *testing.T) {
	url, l := server(t)
	status := webStatus()
	status.Workloads[0].Containers = []enforcer.ContainerStatus{
		{Container: enforcer.Container{Name: "a", Label: policy.ModeBlock}}, {Container: enforcer.Container{Name: "b", Label: policy.ModeLearn}},
	}
	answerStatus(t, l, status)
	egw(t, "policy", "allow", "shop/web", "192.0.2.1", "--nats", url).want(t, exitOK)
	egw(t, "mode", "shop/web", "block", "--yes", "--nats", url).want(t, exitOK)
	w := l.FlowWriter("web-1", "boot")
	flow := &schemas.Flow{
		Id: schemas.FlowID("web-1", "boot", 0), TimeNs: time.Now().UnixNano(), Host: "web-1", Workload: "shop/web", Policy: "shop/web",
		DstIp: []byte{203, 0, 113, 7}, DstPort: 443, Proto: 6, Mode: schemas.Mode_MODE_BLOCK, Verdict: schemas.Verdict_VERDICT_DENY, Count: 7,
	}
	if err := w.Write(t.Context(), []*schemas.Flow{flow}, 1); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Close()
	back := []string{"policy", "rollback", "shop/web", "1", "--nats", url}
	shown := []string{
		"mode of shop/web: block to its label\n", "NOT BLOCKED any more: shop/web, its mode would be learn.\n",
		"If policy shop/web had been as at revision 1 for the last 7 days:\n7 decisions", "0 would newly be denied, 7 newly allowed",
	}
	for _, answer := range []string{"n\n", "\n", "\x04"} {
		r := typed(t, answer, back...).want(t, exitRefused, shown...)
		if !strings.Contains(r.stderr, "Roll policy shop/web back to revision 1? [y/N] ") || !strings.Contains(r.stderr, "nothing was changed") {
			t.Errorf("%q: stderr: %s", answer, r.stderr)
		}
	}
	egw(t, "policy", "show", "shop/web", "--nats", url).want(t, exitOK, "mode block")
	r := egw(t, "mode", "shop/web", "label", "--dry-run", "--nats", url).want(t, exitRefused, "block to its label")
	if !strings.Contains(r.stderr, "NOT BLOCKED any more: shop/web, its mode would be learn.\n") {
		t.Errorf("stderr: %s", r.stderr)
	}
	typed(t, "y\n", back...).want(t, exitOK, append(shown, "policy shop/web is at revision 3\n")...)
	egw(t, "policy", "show", "shop/web", "--nats", url).want(t, exitOK, "mode label")
}

func TestAnImportIsShownAndAsked(t *testing.T) {
	url, _ := server(t)
	file := t.TempDir() + "/web.rules"
	if err := os.WriteFile(file, []byte("0.0.0.0/0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := []string{"policy", "import", "web", file, "--nats", url}
	shown := []string{"0.0.0.0/0\n", "No traffic of web was recorded in the last 7 days: what the import would change is not known.\n"}
	typed(t, "n\n", load...).want(t, exitRefused, shown...)
	egw(t, load...).want(t, exitRefused, shown...)
	egw(t, append(load, "--dry-run")...).want(t, exitRefused, shown...)
	egw(t, "policy", "show", "web", "--nats", url).want(t, exitNotFound)
	egw(t, append(load, "--yes")...).want(t, exitOK, append(shown, "policy web is at revision 1\n")...)
}
