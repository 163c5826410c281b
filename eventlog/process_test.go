package eventlog

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary is also the server and the writer that are killed.
const (
	envServer = "EGW_TEST_SERVER" // directory
	envWriter = "EGW_TEST_WRITER" // socket
	envFlows  = "EGW_TEST_FLOWS"
	envSocket = "EGW_TEST_SOCKET"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(envServer) != "":
		exitWith(runServer(os.Getenv(envServer), os.Getenv(envSocket)))
	case os.Getenv(envWriter) != "":
		exitWith(runWriter(os.Getenv(envWriter), os.Getenv(envFlows)))
	}
	os.Exit(m.Run())
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runServer serves until its standard input ends.
func runServer(dir, path string) error {
	signal.Ignore(unix.SIGXFSZ) // a write beyond the limit is an error then
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	s, err := StartServer(ServerOptions{Dir: dir, Socket: path, Log: log})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	go func() {
		for err := range s.Failed() {
			fmt.Println("failed:", oneLine(err.Error()))
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return s.Close()
}

// runWriter resumes and writes flows one at a time up to a number.
func runWriter(path, number string) error {
	last, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	l, err := Connect(context.Background(), Options{URL: "unix://" + path})
	if err != nil {
		return err
	}
	w := l.FlowWriter(testHost, testBoot)
	position, _, err := w.Resume(context.Background())
	if err != nil {
		return err
	}
	fmt.Println("resumed at", position/stride)
	for n := int(position / stride); n < last; n++ {
		some, end := flows(n, n+1)
		if err := w.Write(context.Background(), some, end); err != nil {
			return err
		}
	}
	return w.Flush(context.Background())
}

// child is a process of ours.
type child struct {
	*exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
	line  string // the first it said
}

// run starts the test binary in another part and waits for its first line.
func run(t testing.TB, env ...string) *child {
	t.Helper()
	c := &child{Cmd: exec.Command(os.Args[0])}
	c.Env = append(os.Environ(), env...)
	c.Stderr = testOutput{t}
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	c.stdin, c.out = stdin, bufio.NewReader(out)
	if c.line, err = c.out.ReadString('\n'); err != nil {
		t.Fatalf("%v says nothing: %v", env, err)
	}
	return c
}

// kill is kill -9; once more does nothing.
func (c *child) kill() {
	if c.ProcessState == nil {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
}

// outside is a server in a process of its own.
type outside struct{ dir, socket string }

func newOutside(t testing.TB) outside {
	dir := t.TempDir()
	return outside{dir: filepath.Join(dir, "nats"), socket: filepath.Join(dir, "s")}
}

func (o outside) start(t testing.TB) *child {
	t.Helper()
	return run(t, envServer+"="+o.dir, envSocket+"="+o.socket)
}

func (o outside) options() Options { return Options{URL: "unix://" + o.socket} }
