package main

import (
	"errors"
	"fmt"
	"io"
	"os"

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
			if err := a.agree(yes, fmt.Sprintf("Take the gate at %s off? No container will be blocked or recorded.", pins)); err != nil {
				return err
			}
			return detach(a, pins)
		},
	}
	c.Flags().StringVar(&pins, "pins", enforcer.DefaultPins, "folder of the gate's pins")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
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
