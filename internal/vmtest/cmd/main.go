// Command cmd boots kernels and runs the tests of the kernel side in them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/egresswarden/egresswarden/internal/vmtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	kernels := flag.String("k", "all", "`series` of the kernel, "+strings.Join(vmtest.Series(), ", ")+" or all")
	run := flag.String("run", "", "`pattern` of the tests, as go test's -run; with -system of the boots, which follow from each other")
	system := flag.Bool("system", false, "test in a Debian system with systemd and Docker instead")
	disk := flag.String("disk", "", "with -system the `file` of its disk, which is kept; it is made if it is not there")
	flag.Parse()
	series := strings.Split(*kernels, ",")
	if *kernels == "all" {
		series = vmtest.Series()
	}
	do := test
	if *system {
		do = func(ctx context.Context, series []string, run string) error {
			return testSystem(ctx, series, run, *disk)
		}
	}
	if err := do(ctx, series, *run); err != nil {
		fmt.Fprintln(os.Stderr, "vmtest:", err)
		stop()
		os.Exit(1)
	}
}

// test runs the suites on each kernel.
func test(ctx context.Context, series []string, run string) error {
	suites := vmtest.Suites
	for i := range suites {
		suites[i].Run = run
	}
	return inDir(func(dir string) error {
		sources, err := vmtest.Build(ctx, dir, suites)
		if err != nil {
			return err
		}
		return each(ctx, series, func(k vmtest.Kernel) (*vmtest.Report, error) {
			return vmtest.Run(ctx, k, sources, suites, os.Stdout)
		})
	})
}

// testSystem runs the tests of a whole system on each kernel.
func testSystem(ctx context.Context, series []string, run, disk string) error {
	part := vmtest.Part{Disk: disk}
	if disk != "" && len(series) > 1 {
		return errors.New("a disk is of one kernel")
	}
	if run != "" {
		var err error
		if part.Boots, err = regexp.Compile(run); err != nil {
			return err
		}
	}
	return inDir(func(dir string) error {
		sources, err := vmtest.BuildSystem(ctx, dir)
		if err != nil {
			return err
		}
		return each(ctx, series, func(k vmtest.Kernel) (*vmtest.Report, error) {
			return vmtest.RunSystem(ctx, k, sources, part, os.Stdout)
		})
	})
}

func inDir(fn func(dir string) error) error {
	dir, err := os.MkdirTemp("", "egw-vmtest-")
	if err != nil {
		return err
	}
	return errors.Join(fn(dir), os.RemoveAll(dir))
}

// each boots one kernel after the other, and tells of each.
func each(ctx context.Context, series []string, run func(vmtest.Kernel) (*vmtest.Report, error)) error {
	var failed []string
	for _, s := range series {
		k, err := vmtest.Fetch(ctx, s)
		if err != nil {
			return err
		}
		start := time.Now()
		r, err := run(k)
		if err != nil {
			return err
		}
		for _, p := range r.Problems {
			fmt.Println(s, "PROBLEM", p)
		}
		fmt.Printf("%s RESULT kernel %s: %d passed, %d skipped, %d failed, %d problems, %s (%s of processors)\n", s, k.Release,
			r.Passed, r.Skipped, r.Failed, len(r.Problems), time.Since(start).Round(time.Second), r.Processor.Round(time.Second))
		if len(r.Problems) > 0 {
			failed = append(failed, s)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("not as it should be on kernel %s", strings.Join(failed, ", "))
	}
	return nil
}
