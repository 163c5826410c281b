package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ParseError tells where in an allow-list something is wrong.
type ParseError struct {
	// File is empty and Line 0 for a rule that is not from a file.
	File string
	Line int
	// Col counts bytes from 1.
	Col int
	Msg string
}

// Error is file:line:column: message.
func (e *ParseError) Error() string {
	if e.File == "" && e.Line == 0 {
		return fmt.Sprintf("column %d: %s", e.Col, e.Msg)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg)
}

// ParseRule reads one line of an allow-list:
//
//	[allow|deny] ADDRESS[/BITS] [PORTS] [# comment]
//
// PORTS is a list such as tcp/443,udp/8000-8100,icmp with neither meaning all.
// An error is a *ParseError.
func ParseRule(line string) (Rule, error) {
	if i := strings.IndexFunc(line, isControl); i >= 0 || !utf8.ValidString(line) {
		return Rule{}, &ParseError{Col: max(i, 0) + 1, Msg: "control character or invalid UTF-8"}
	}
	fields, comment := split(line)
	action := ActionAllow
	if len(fields) > 0 && (fields[0].text == "allow" || fields[0].text == "deny") {
		if fields[0].text == "deny" {
			action = ActionDeny
		}
		fields = fields[1:]
	}
	if len(fields) == 0 {
		return Rule{}, &ParseError{Col: 1, Msg: "no destination"}
	}
	if len(fields) > 2 {
		return Rule{}, &ParseError{Col: fields[2].col,
			Msg: fmt.Sprintf("unexpected %q: a comment begins with #, ports have no spaces", fields[2].text)}
	}
	prefix, err := parsePrefix(fields[0].text)
	if err != nil {
		return Rule{}, &ParseError{Col: fields[0].col, Msg: err.Error()}
	}
	var ports []PortRange
	if len(fields) == 2 {
		if ports, err = parsePorts(fields[1]); err != nil {
			return Rule{}, err
		}
	}
	r, err := NewRule(action, prefix, ports)
	if err != nil {
		return Rule{}, &ParseError{Col: fields[0].col, Msg: err.Error()}
	}
	r.Comment = comment
	return r, nil
}

// ParseFile reads an allow-list, one rule a line; empty lines and comments are
// skipped. The error joins a *ParseError for everything that is wrong, and
// then there are no rules: half a file is no policy.
func ParseFile(name string, text []byte) ([]Rule, error) {
	var rules []Rule
	var errs []error
	seen := map[string]int{}
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(string(text), "\ufeff")) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if f, _ := split(line); len(f) == 0 && utf8.ValidString(line) {
			continue
		}
		r, err := ParseRule(line)
		if pe := (*ParseError)(nil); errors.As(err, &pe) {
			pe.File, pe.Line = name, n
			errs = append(errs, pe)
			continue
		}
		key := r.canonical()
		if first, ok := seen[key]; ok {
			errs = append(errs, &ParseError{File: name, Line: n, Col: 1,
				Msg: fmt.Sprintf("duplicate of line %d: %s", first, r)})
			continue
		}
		seen[key] = n
		r.Origin, r.Source = OriginFile, fmt.Sprintf("%s:%d", name, n)
		rules = append(rules, r)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	Distinguish(rules)
	return rules, nil
}

type field struct {
	text string
	col  int
}

// split cuts a line into fields and the comment, which begins with a # at the
// start of a field.
func split(line string) (fields []field, comment string) {
	for i := 0; i < len(line); {
		r, size := utf8.DecodeRuneInString(line[i:])
		if unicode.IsSpace(r) {
			i += size
			continue
		}
		if r == '#' {
			return fields, strings.TrimSpace(line[i+1:])
		}
		end := strings.IndexFunc(line[i:], unicode.IsSpace)
		if end < 0 {
			end = len(line) - i
		}
		fields = append(fields, field{line[i : i+end], i + 1})
		i += end
	}
	return fields, ""
}

func isControl(r rune) bool { return unicode.IsControl(r) && r != '\t' }

func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is no IP address or CIDR", s)
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no IP address or CIDR", s)
	}
	if p.Bits() == 0 && s != "0.0.0.0/0" && s != "::/0" {
		return netip.Prefix{}, fmt.Errorf("%q: everything is written 0.0.0.0/0 or ::/0", s)
	}
	return p, nil
}

func parsePorts(f field) ([]PortRange, error) {
	var ports []PortRange
	col := f.col
	for item := range strings.SplitSeq(f.text, ",") {
		r, err := parsePortRange(item)
		if err != nil {
			return nil, &ParseError{Col: col, Msg: err.Error()}
		}
		ports = append(ports, r)
		col += len(item) + 1
	}
	return ports, nil
}

func parsePortRange(s string) (PortRange, error) {
	name, ports, cut := strings.Cut(s, "/")
	proto, err := ParseProto(name)
	if err != nil {
		return PortRange{}, err
	}
	if !cut {
		return PortRange{proto, 0, 65535}, nil
	}
	if proto != ProtoTCP && proto != ProtoUDP {
		return PortRange{}, fmt.Errorf("%q: %s has no ports", s, proto)
	}
	lo, hi, ranged := strings.Cut(ports, "-")
	if !ranged {
		hi = lo
	}
	first, err1 := parsePort(lo)
	last, err2 := parsePort(hi)
	if err1 != nil || err2 != nil || first > last {
		return PortRange{}, fmt.Errorf("%q: want a port from 0 to 65535 or a rising range of two", s)
	}
	return PortRange{proto, first, last}, nil
}

func parsePort(s string) (uint16, error) {
	if strings.HasPrefix(s, "+") || len(s) > 1 && s[0] == '0' {
		return 0, fmt.Errorf("port %q", s)
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}

// String is the rule as a line of an allow-list, without its comment;
// ParseRule reads it back.
func (r Rule) String() string {
	return strings.TrimPrefix(r.canonical(), "allow ")
}

// Line is String with the comment.
func (r Rule) Line() string {
	comment := strings.Join(strings.FieldsFunc(r.Comment, func(c rune) bool {
		return unicode.IsSpace(c) || unicode.IsControl(c)
	}), " ")
	if comment == "" {
		return r.String()
	}
	return r.String() + "  # " + strings.ToValidUTF8(comment, "?")
}

// canonical is what the number of a rule is the hash of.
func (r Rule) canonical() string {
	b := append(make([]byte, 0, 64), r.Action.String()...)
	b = append(b, ' ')
	b = r.Prefix.AppendTo(b)
	for i, p := range r.Ports {
		b = append(b, " ,"[min(i, 1)])
		b = p.appendTo(b)
	}
	return string(b)
}

// String is such as tcp/443, udp/8000-8100 or icmp.
func (p PortRange) String() string { return string(p.appendTo(nil)) }

func (p PortRange) appendTo(b []byte) []byte {
	b = append(b, p.Proto.String()...)
	if p.First == 0 && p.Last == 65535 {
		return b
	}
	b = append(b, '/')
	b = strconv.AppendUint(b, uint64(p.First), 10)
	if p.Last != p.First {
		b = append(b, '-')
		b = strconv.AppendUint(b, uint64(p.Last), 10)
	}
	return b
}

// mergePorts sorts ranges and joins those that touch.
func mergePorts(ports []PortRange) []PortRange {
	if len(ports) == 0 {
		return nil
	}
	in := slices.SortedFunc(slices.Values(ports), func(a, b PortRange) int {
		return (int(a.Proto)-int(b.Proto))<<17 + int(a.First) - int(b.First)
	})
	out := in[:1]
	for _, p := range in[1:] {
		last := &out[len(out)-1]
		if p.Proto == last.Proto && int(p.First) <= int(last.Last)+1 {
			last.Last = max(last.Last, p.Last)
			continue
		}
		out = append(out, p)
	}
	return out
}
