package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/enforcer"
)

const detachLong = `Take the gate off this host: its programs and maps, of whatever version. From then
on nothing is judged and no container is blocked. What was counted and not yet
written to the event log is lost. Needs root.

Stop the enforcer first: one that goes on running has no gate any more, says so
in egw status, and puts the gate back when it is started again.`

// detachCommand takes the gate off.
func detachCommand(a *app) *cobra.Command {
	var pins string
	var yes bool
	c := &cobra.Command{
		Use: "detach", Short: "Take the gate off this host: nothing is enforced any more", Long: detachLong,
		Example: "  egw detach\n  egw detach --yes",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := confirm(a, yes, fmt.Sprintf("Take the gate at %s off? No container will be blocked or recorded.", pins)); err != nil {
				return err
			}
			return detach(a, pins)
		},
	}
	c.Flags().StringVar(&pins, "pins", enforcer.DefaultPins, "folder of the gate's pins")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// confirm asks on a terminal; without one the answer must be given beforehand.
func confirm(a *app, yes bool, question string) error {
	if yes {
		return nil
	}
	if !isTerminal(a.stdin) {
		return usageErrorf("there is no terminal to ask at: say --yes")
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return coded{errors.New("not confirmed, nothing was changed"), errRefused}
	}
	return nil
}

func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func detach(a *app, pins string) error {
	removed, err := enforcer.Detach(pins)
	if a.output == "json" {
		return errors.Join(err, printJSON(a.stdout, map[string][]string{"removed": append([]string{}, removed...)}))
	}
	for _, pin := range removed {
		fmt.Fprintln(a.stdout, "removed", pin)
	}
	if err == nil && len(removed) == 0 {
		fmt.Fprintln(a.stdout, "no gate is pinned at", pins)
	}
	return err
}
