package adversary

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Main runs the program with its arguments, without its name:
//
//	run SETTINGS        every technique
//	one SETTINGS N      one, by its number
//	stand SETTINGS      what is open before the mode changes, see standings
//	child VERB ...      what a technique does in a process of its own
//
// SETTINGS are those of the type as JSON. The exit code is 2 for wrong usage
// and 0 for whatever came of it.
func Main(args []string, out, errs io.Writer) int {
	if err := run(args, &lines{to: out}); err != nil {
		fmt.Fprintln(errs, "adversary:", err)
		return 2
	}
	return 0
}

func run(args []string, out *lines) error {
	if len(args) < 2 {
		return errors.New("want run, one or stand, and settings")
	}
	if args[0] == "child" {
		return child(args[1:])
	}
	var s Settings
	if err := json.Unmarshal([]byte(args[1]), &s); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	switch args[0] {
	case "run":
		return runAll(s, out)
	case "one":
		return runOne(s, args[2:], out)
	case "stand":
		return stand(s, out)
	}
	return fmt.Errorf("unknown verb %q", args[0])
}

// lines writes one report at a time.
type lines struct {
	mu sync.Mutex
	to io.Writer
}

func (l *lines) report(r Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = json.NewEncoder(l.to).Encode(r)
}

func (l *lines) copy(text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.to.Write(text)
}

// runAll goes through the phases.
func runAll(s Settings, out *lines) error {
	ways := All()
	if s.Wait {
		if err := await(s, WantStart); err != nil {
			return err
		}
	}
	together(s, ways, pick(ways, func(t Technique) bool { return t.Phase == PhaseFirst }), out)
	many := pick(ways, func(t Technique) bool { return t.Phase == PhaseOwn || t.Phase == PhaseMany })
	if s.Pause {
		half := len(many) / 2
		together(s, ways, many[:half], out)
		if err := await(s, WantPause); err != nil {
			return err
		}
		many = many[half:]
	}
	together(s, ways, many, out)
	if s.Admin {
		for _, n := range pick(ways, func(t Technique) bool { return t.Phase == PhaseAdmin }) {
			out.report(try(s, n, ways[n]))
		}
	}
	return nil
}

// pick are the numbers of some.
func pick(ways []Technique, keep func(Technique) bool) (numbers []int) {
	for n, t := range ways {
		if keep(t) {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// together runs techniques beside each other.
func together(s Settings, ways []Technique, numbers []int, out *lines) {
	var wg sync.WaitGroup
	for _, n := range numbers {
		wg.Go(func() {
			if ways[n].Phase == PhaseOwn {
				out.copy(apart(s, n, ways[n]))
				return
			}
			out.report(try(s, n, ways[n]))
		})
	}
	wg.Wait()
}

// try runs one on a thread that ends with it, because some change the
// thread's namespaces. The thread bears the mark as its name, and so do the
// events that tell of it.
func try(s Settings, n int, t Technique) Report {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		a := newAttempt(s, n)
		name := append([]byte(a.Text()), 0)
		_ = unix.Prctl(unix.PR_SET_NAME, ptr(name), 0, 0, 0)
		defer a.arrive()
		done <- t.run(a)
	}()
	return report(n, t, <-done)
}

// apart runs one in a process of its own, which may crash.
func apart(s Settings, n int, t Technique) []byte {
	settings, err := json.Marshal(s)
	if err != nil {
		panic(err) // it was made from JSON
	}
	c := exec.Command("/proc/self/exe", "one", string(settings), strconv.Itoa(n))
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err = c.Run(); err == nil && out.Len() != 0 {
		return out.Bytes()
	}
	first, _, _ := bytes.Cut(errs.Bytes(), []byte("\n"))
	text, _ := json.Marshal(report(n, t, fmt.Errorf("its process ended: %v: %s", err, first))) //nolint:errorlint // for people
	return append(text, '\n')
}

func runOne(s Settings, args []string, out *lines) error {
	if len(args) != 1 {
		return errors.New("one: want a number")
	}
	n, err := strconv.Atoi(args[0])
	ways := All()
	if err != nil || n < 0 || n >= len(ways) {
		return fmt.Errorf("one: no technique %q", args[0])
	}
	out.report(try(s, n, ways[n]))
	return nil
}

// await waits until the accomplice says go.
func await(s Settings, what string) error {
	_, err := ask(s.Outside, Request{Want: what}, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, what+":", err)
	}
	return err
}
