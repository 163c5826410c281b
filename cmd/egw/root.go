package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/internal/version"
	"github.com/egresswarden/egresswarden/operator"
)

// app is what the commands share: the world outside and the global flags.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) string
	now            func() time.Time

	output  string // table or json, see outputs
	nats    string
	token   string
	creds   string
	tls     struct{ ca, cert, key string }
	started bool // a command's own code has begun: its errors are no usage errors
	endless bool // the command ends by a signal alone, which is no interruption
	// knownWait is how long hosts have to say whether they know a workload.
	knownWait time.Duration
}

// commands are all there are, in the order of the help.
func commands(a *app) []*cobra.Command {
	return []*cobra.Command{
		upCommand(a),
		statusCommand(a),
		workloadsCommand(a),
		explainCommand(a),
		flowsCommand(a),
		replayCommand(a),
		readinessCommand(a),
		proposalsCommand(a),
		reviewCommand(a),
		policyCommand(a),
		modeCommand(a),
		deadCommand(a),
		doctorCommand(a),
		probeCommand(a),
		detachCommand(a),
		manCommand(a),
	}
}

// run executes a command line and gives the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer, env func(string) string) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, env: env, now: time.Now, knownWait: time.Second}
	return a.run(args)
}

func (a *app) run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends what does not end
	root := rootCommand(a)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if ctx.Err() != nil && !a.endless {
		return exitInterrupted
	}
	if err != nil {
		fmt.Fprintln(a.stderr, "egw:", safeLines(err.Error()))
	}
	return exitCode(err, a.started)
}

const rootLong = `egw shows and changes what Docker containers may talk to.

It speaks to the NATS server that the enforcer writes to: the embedded one of
this host through its socket, or any other by --nats.

Exit codes: 0 done, 1 error, 2 wrong usage, 3 not found, 4 refused or would
change something, 5 enforcement is unhealthy, 130 interrupted.`

func rootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use: "egw", Short: "Learn and enforce what containers may talk to", Long: rootLong,
		SilenceErrors: true, SilenceUsage: true, Version: version.String(),
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			if all := outputs(c); !slices.Contains(all, a.output) {
				return usageErrorf("output %q: want %s", a.output, strings.Join(all, " or "))
			}
			return nil
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	flags := root.PersistentFlags()
	flags.StringVarP(&a.output, "output", "o", "table", "how to print: table or json; flows also ocsf or ecs")
	flags.StringVar(&a.nats, "nats", a.envOr("EGW_NATS", "unix://"+eventlog.DefaultSocket), "NATS server: unix:///path, nats:// or tls:// ($EGW_NATS)")
	flags.StringVar(&a.token, "token-file", a.env("EGW_TOKEN_FILE"), "file with the token ($EGW_TOKEN_FILE)")
	flags.StringVar(&a.creds, "creds", a.env("EGW_CREDS"), "credentials file ($EGW_CREDS)")
	flags.StringVar(&a.tls.ca, "tls-ca", "", "file with the authorities that vouch for the server")
	flags.StringVar(&a.tls.cert, "tls-cert", "", "file with the client's certificate")
	flags.StringVar(&a.tls.key, "tls-key", "", "file with the client's key")
	offer := func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return outputs(c), cobra.ShellCompDirectiveNoFileComp
	}
	if err := root.RegisterFlagCompletionFunc("output", offer); err != nil {
		panic(err) // no such flag: a mistake in this program
	}
	root.AddCommand(commands(a)...)
	a.markStart(root)
	return root
}

// moreOutputs annotates a command with the outputs that it has besides those
// that all have.
const moreOutputs = "outputs"

// outputs are how a command can print.
func outputs(c *cobra.Command) []string {
	return append([]string{"table", "json"}, strings.Fields(c.Annotations[moreOutputs])...)
}

// markStart notes when a command's own code begins.
func (a *app) markStart(c *cobra.Command) {
	if own := c.RunE; own != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			a.started = true
			return own(c, args)
		}
	}
	for _, sub := range c.Commands() {
		a.markStart(sub)
	}
}

func (a *app) envOr(name, fallback string) string {
	if value := a.env(name); value != "" {
		return value
	}
	return fallback
}

// complete offers fixed words for a flag.
func complete(c *cobra.Command, flag string, words ...string) {
	offer := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp
	}
	if err := c.RegisterFlagCompletionFunc(flag, offer); err != nil {
		panic(err) // no such flag: a mistake in this program
	}
}

// The exit codes.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitRefused     = 4
	exitUnhealthy   = 5
	exitInterrupted = 130
)

// The errors that have an exit code of their own, besides those of eventlog.
var (
	errUsage     = errors.New("usage")
	errNotFound  = errors.New("not found")
	errRefused   = errors.New("refused")
	errUnhealthy = errors.New("unhealthy")
)

// coded is an error with one of the sentinels above, which is not printed.
type coded struct {
	error
	kind error
}

// Unwrap gives the sentinel and the error.
func (c coded) Unwrap() []error { return []error{c.error, c.kind} }

func usageErrorf(format string, args ...any) error {
	return coded{fmt.Errorf(format, args...), errUsage}
}

func exitCode(err error, started bool) int {
	switch {
	case err == nil:
		return exitOK
	case !started || errors.Is(err, errUsage) || errors.Is(err, operator.ErrInvalid):
		return exitUsage
	case errors.Is(err, errNotFound) || errors.Is(err, eventlog.ErrNotFound) || errors.Is(err, operator.ErrNotFound):
		return exitNotFound
	case errors.Is(err, errRefused) || errors.Is(err, eventlog.ErrStale) || errors.Is(err, operator.ErrRefused):
		return exitRefused
	case errors.Is(err, errUnhealthy) || errors.Is(err, eventlog.ErrNoAnswer):
		return exitUnhealthy
	}
	return exitError
}

// printable keeps what others chose (names of containers and processes) from
// steering the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u202e' || r == '\u2028' || r == '\u2029' {
			return '\ufffd'
		}
		return r
	}, text)
}

// safeLines is printable of each line.
func safeLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n")
}
