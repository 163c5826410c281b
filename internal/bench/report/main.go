// Command report reads what the benchmarks printed and writes
// docs/BENCHMARKS.md: what was to be reached, what was, and on which machine.
// A goal that is missed is called so.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// results are the numbers by benchmark and unit.
type results map[string]map[string]float64

var suffix = regexp.MustCompile(`-\d+$`) // of the number of CPUs

// parse reads lines as Go's benchmarks print them, and passes over others.
func parse(r io.Reader) (results, error) {
	all := results{}
	in := bufio.NewScanner(r)
	for in.Scan() {
		f := strings.Fields(in.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		if _, err := strconv.Atoi(f[1]); err != nil {
			continue
		}
		name := suffix.ReplaceAllString(strings.TrimPrefix(f[0], "Benchmark"), "")
		units := map[string]float64{}
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", in.Text(), err)
			}
			units[f[i+1]] = v
		}
		all[name] = units
	}
	return all, in.Err()
}

func main() {
	all, err := parse(os.Stdin)
	if err == nil && len(all) == 0 {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		m := thisMachine()
		if len(os.Args) > 1 {
			m.commit = os.Args[1]
		}
		err = write(os.Stdout, all, m)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

// write is the whole page.
func write(w io.Writer, all results, m machine) error {
	var b strings.Builder
	b.WriteString(head)
	fmt.Fprintf(&b, "Commit %s. Measured on: %s, %d CPUs, %s memory, Linux %s, %s, load average %s when the report was written.\n\n",
		m.commit, m.cpu, m.cpus, m.memory, m.kernel, m.golang, m.load)
	b.WriteString("## Goals\n\n| what | goal | measured | |\n|---|---|---|---|\n")
	for _, g := range goals {
		fmt.Fprintln(&b, g.row(all))
	}
	b.WriteString(goalNotes)
	costs(&b, all)
	links(&b, all)
	b.WriteString("\n## Every number\n\n| benchmark | numbers |\n|---|---|\n")
	rest(&b, all)
	_, err := io.WriteString(w, b.String())
	return err
}
