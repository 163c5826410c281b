// Command guest is what runs in the machine besides the tests. As the first
// process it makes a system: either the bare kernel's, in which it runs the plan
// and powers off, or the one on the disk, which it hands over to. There, called
// with "boot", it runs the program of this boot and has the machine start anew.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/egresswarden/egresswarden/internal/testutil/build"
	"github.com/egresswarden/egresswarden/internal/vmtest"
	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "boot" {
		if err := boot(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	words, err := start()
	if err == nil {
		err = runPlan(words)
	}
	if err != nil {
		fmt.Fprintln(words, vmtest.SayError+err.Error())
	}
	fmt.Fprintln(words, vmtest.SayDone)
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		panic(err)
	}
}

// runPlan runs what the plan says in the bare system, or hands over.
func runPlan(words io.Writer) error {
	plan, err := readPlan("/")
	if err != nil {
		return err
	}
	for _, m := range plan.Modules {
		if err := load(m); err != nil {
			return err
		}
	}
	if plan.Disk != "" {
		return switchRoot(plan.Disk)
	}
	for _, p := range plan.Programs {
		run(p, words)
	}
	return nil
}

func readPlan(dir string) (plan vmtest.Plan, err error) {
	text, err := os.ReadFile(dir + vmtest.PlanFile)
	if err != nil {
		return plan, err
	}
	return plan, json.Unmarshal(text, &plan)
}

func load(module string) error {
	f, err := os.Open(module)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("load %s: %w", module, err)
	}
	return nil
}

// run runs a program to its end, and tells of it.
func run(p vmtest.Program, words io.Writer) {
	fmt.Fprintln(words, vmtest.SayStart+p.Name)
	c := exec.Command(p.Path, p.Args...)
	c.Dir = p.Dir
	c.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "EGW_PRIVILEGED=1",
		build.Built + "=" + filepath.Join(vmtest.SystemDir, vmtest.BuiltDir)}
	c.Stdout, c.Stderr = words, words
	if err := c.Run(); err != nil && c.ProcessState == nil {
		fmt.Fprintln(words, vmtest.SayError+err.Error())
	}
	// The program's last line may have no end.
	fmt.Fprintf(words, "\n%s%s %d\n", vmtest.SayEnd, p.Name, c.ProcessState.ExitCode())
}
