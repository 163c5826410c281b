package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/egresswarden/egresswarden/enforcer"
	"github.com/egresswarden/egresswarden/eventlog"
	"github.com/egresswarden/egresswarden/policy"
)

const explainExample = `  egw explain shop/web 203.0.113.7:443
  egw explain shop/web 203.0.113.7:53/udp
  egw explain shop/web '[2001:db8::1]:443'
  egw explain shop/web 203.0.113.7`

const explainLong = `Ask the hosts what would happen to a connect or send of a workload, without
sending anything: where a container of the workload is known, its host's kernel
answers with the very tables that are in force, else the same code does that
compiles them. Names the rule, who added it, where it stands, and the revision.
Where the gate is not attached nothing is enforced: it says so, and exits with 5.

The protocol is tcp, udp, icmp or other, tcp if not said.`

// explainCommand asks what the gate would do.
func explainCommand(a *app) *cobra.Command {
	var host string
	c := &cobra.Command{
		Use: "explain WORKLOAD IP[:PORT[/PROTO]]", Short: "Tell what would happen to a connect, and why",
		Long: explainLong, Example: explainExample, Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			q, err := parseTarget(args[1])
			if err != nil {
				return err
			}
			q.Workload = args[0]
			return explain(c.Context(), a, host, q)
		},
	}
	c.Flags().StringVar(&host, "host", "", "ask this host alone")
	return c
}

// parseTarget reads 192.0.2.1, 192.0.2.1:443, [2001:db8::1]:53/udp and
// 2001:db8::1.
func parseTarget(text string) (enforcer.ExplainRequest, error) {
	q := enforcer.ExplainRequest{Proto: policy.ProtoTCP}
	address, word, hasProto := strings.Cut(text, "/")
	if hasProto {
		var err error
		if q.Proto, err = policy.ParseProto(word); err != nil {
			return q, usageErrorf("destination %q: %w", text, err)
		}
	}
	var err error
	if q.Dst, q.Port, err = parseAddrPort(address); err != nil {
		return q, usageErrorf("destination %q: %w", text, err)
	}
	return q, nil
}

var errTarget = errors.New("want IP[:PORT[/PROTO]], as 203.0.113.7:443 or [2001:db8::1]:53/udp")

func parseAddrPort(text string) (netip.Addr, uint16, error) {
	address := text
	if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
		address = strings.TrimSuffix(inner, "]")
	}
	ap := netip.AddrPort{}
	dst, err := netip.ParseAddr(address)
	if err != nil {
		ap, err = netip.ParseAddrPort(text)
		dst = ap.Addr()
	}
	if err != nil || dst.Zone() != "" {
		return netip.Addr{}, 0, whatIsWrong(text)
	}
	return dst, ap.Port(), nil
}

// whatIsWrong says which part of an address with a port is none.
func whatIsWrong(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return errTarget
	}
	dst, err := netip.ParseAddr(host)
	switch _, portErr := strconv.ParseUint(port, 10, 16); {
	case host == "":
		return fmt.Errorf("there is no address before the port: %w", errTarget)
	case err != nil:
		return fmt.Errorf("%s is no IP address, names are not looked up: %w", host, errTarget)
	case dst.Zone() != "":
		return fmt.Errorf("zones are not judged: %w", errTarget)
	case portErr != nil:
		return fmt.Errorf("port %s: want a number up to 65535", port)
	}
	return errTarget
}

func explain(ctx context.Context, a *app, host string, q enforcer.ExplainRequest) error {
	l, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	names, err := hosts(ctx, l, host)
	if err != nil {
		return err
	}
	answers, err := explanations(ctx, l, names, q)
	if len(answers) == 0 && err == nil {
		err = coded{fmt.Errorf("no host knows a workload %q", q.Workload), errNotFound}
	}
	if len(answers) == 0 {
		return err
	}
	err = errors.Join(err, notEnforcing(answers))
	if a.output == "json" {
		return errors.Join(printJSON(a.stdout, answers), err)
	}
	return errors.Join(printExplanations(a.stdout, answers), err)
}

// explanations are those of the hosts that know the workload. The error is of
// those that do not answer.
func explanations(ctx context.Context, l *eventlog.Log, hosts []string, q enforcer.ExplainRequest) ([]enforcer.Explanation, error) {
	var answers []enforcer.Explanation
	var errs []error
	for _, host := range hosts {
		var x enforcer.Explanation
		err := ask(ctx, l, host, enforcer.AskExplain, q, &x)
		switch {
		case errors.Is(err, eventlog.ErrNotFound):
		case err != nil:
			errs = append(errs, err)
		default:
			answers = append(answers, x)
		}
	}
	return answers, errors.Join(errs...)
}

// notEnforcing is the error of hosts whose gate is not attached.
func notEnforcing(answers []enforcer.Explanation) error {
	var all []hostStatus
	for _, x := range answers {
		all = append(all, hostStatus{Host: x.Host, Status: &enforcer.Status{Enforcing: x.Enforcing}})
	}
	return unhealthy(all)
}

func printExplanations(w io.Writer, answers []enforcer.Explanation) error {
	out := bufio.NewWriter(w)
	for i, x := range answers {
		if i > 0 {
			fmt.Fprintln(out)
		}
		printExplanation(out, x)
	}
	return out.Flush()
}

var verdictPhrases = map[string]string{
	policy.VerdictNone.String(): "allowed, not judged", policy.VerdictAllow.String(): "allowed",
	policy.VerdictDeny.String(): "denied", policy.VerdictWouldDeny.String(): "allowed in learn mode; block would deny it",
}

func printExplanation(out io.Writer, x enforcer.Explanation) {
	phrase, ok := verdictPhrases[x.Verdict]
	if !ok {
		phrase = x.Verdict
	}
	if !x.Enforcing {
		phrase = "NOT ENFORCED, the gate is not attached; attached: " + phrase
	}
	fmt.Fprintf(out, "%s to %s: %s\n", printable(x.Workload), target(x), printable(phrase))
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "  %s\t%s\n", name, printable(value))
		}
	}
	line("because", x.RuleText)
	line("rule", x.Rule)
	line("why", x.Comment)
	line("owner", x.Owner)
	line("from", x.Source)
	line("revision", strconv.FormatUint(x.Revision, 10))
	line("mode", x.Mode.String())
	line("host", x.Host)
	line("judged by", map[string]string{"kernel": "the kernel, with the tables in force", "policy": "the compiled policy: no container of the workload is known there"}[x.Judged])
	if x.Port == 0 && (x.Proto == "tcp" || x.Proto == "udp") {
		line("note", "no port was named: rules for certain ports do not match")
	}
	_ = t.Flush() // into a buffer; its own Flush tells
}

func target(x enforcer.Explanation) string {
	if x.Port == 0 {
		return x.Dst.String() + "/" + x.Proto
	}
	return netip.AddrPortFrom(x.Dst, x.Port).String() + "/" + x.Proto
}
