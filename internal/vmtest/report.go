package vmtest

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"
)

// Words by which the guest tells the host where it is.
const (
	SayStart = "== start "
	SayEnd   = "== end "
	SayDone  = "== done"
	SayError = "== error "
)

// mark begins the lines that are the test framework's own.
const mark = "\x16"

// Report is what became of the tests of one machine.
type Report struct {
	// Skips are the skips that are known: suite and test to the reason.
	Skips map[string]string
	// Selected says that only some tests were asked for.
	Selected bool
	// Passed, Skipped and Failed are counted without subtests.
	Passed, Skipped, Failed int
	// Problems are why the run is no success.
	Problems []string
	// Processor is the time that the machine computed, by all its processors.
	Processor time.Duration

	suite   string
	results int // of the suite
	done    bool
}

// Read follows the guest until its end, and writes a line per test and, in full,
// what the tests themselves say.
func (r *Report) Read(from io.Reader, to io.Writer, name string) error {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			for _, text := range r.line(strings.TrimRight(line, "\r\n")) {
				fmt.Fprintln(to, name, text)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if !r.done {
		r.problem("the machine ended before its tests did, in %q", r.suite)
	}
	if r.Passed+r.Skipped+r.Failed == 0 {
		r.problem("no test has a result")
	}
	return nil
}

// line takes a line of the guest's and returns what to show of it.
func (r *Report) line(line string) []string {
	before, result, marked := strings.Cut(line, mark)
	if marked {
		shown := r.result(result)
		if before != "" {
			shown = append([]string{before}, shown...)
		}
		return shown
	}
	switch {
	case strings.HasPrefix(line, SayStart):
		r.suite, r.results = strings.TrimPrefix(line, SayStart), 0
	case strings.HasPrefix(line, SayEnd):
		r.end(strings.TrimPrefix(line, SayEnd))
	case strings.HasPrefix(line, SayError):
		r.problem("%s", strings.TrimPrefix(line, SayError))
	case line == SayDone:
		r.done = true
	case line == "":
		return nil
	}
	return []string{line}
}

// result takes a line of the framework's, such as "--- PASS: TestX (0.10s)".
func (r *Report) result(line string) []string {
	text, ok := strings.CutPrefix(strings.TrimLeft(line, " "), "--- ")
	if !ok {
		return nil
	}
	word, rest, _ := strings.Cut(text, ": ")
	test, _, _ := strings.Cut(rest, " ")
	top := !strings.Contains(test, "/")
	if top {
		r.results++
	}
	switch word {
	case "PASS":
		if top {
			r.Passed++
		}
	case "SKIP":
		r.skip(test, top)
	default:
		if top {
			r.Failed++
			r.problem("%s: %s failed", r.suite, test)
		}
	}
	return []string{word + " " + r.suite + " " + rest}
}

func (r *Report) skip(test string, top bool) {
	if top {
		r.Skipped++
	}
	if r.Skips[r.suite+" "+test] == "" {
		r.problem("%s: %s was skipped, and no reason is listed", r.suite, test)
	}
}

// end takes how a test binary ended: its name and exit code.
func (r *Report) end(how string) {
	if how != r.suite+" 0" {
		r.problem("%s ended with code %s", r.suite, strings.TrimPrefix(how, r.suite+" "))
	}
	if r.results == 0 && !r.Selected {
		r.problem("%s has no result", r.suite)
	}
	r.suite = ""
}

func (r *Report) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// Console looks for the kernel's last words in its log.
func (r *Report) Console(log io.Reader) error {
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		for _, bad := range []string{"Kernel panic", "BUG: ", "Oops: ", "general protection fault"} {
			if strings.Contains(lines.Text(), bad) {
				r.problem("kernel: %s", lines.Text())
			}
		}
	}
	return lines.Err()
}
