package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestRuleIsReadInItsCanonicalForm(t *testing.T) {
	for line, want := range map[string]string{
		"10.0.0.0/8":                                "10.0.0.0/8",
		"  1.1.1.1/32 tcp/443,udp/53  # why":        "1.1.1.1/32 tcp/443,udp/53  # why",
		"1.1.1.1":                                   "1.1.1.1/32",
		"2001:DB8::/32\ttcp/8000-8100":              "2001:db8::/32 tcp/8000-8100",
		"deny 169.254.169.254 # metadata":           "deny 169.254.169.254/32  # metadata",
		"allow 192.0.2.1 tcp":                       "192.0.2.1/32 tcp",
		"192.0.2.1 icmp,other":                      "192.0.2.1/32 icmp,other",
		"192.0.2.1 udp/53,tcp/81-90,tcp/80,tcp/443": "192.0.2.1/32 tcp/80-90,tcp/443,udp/53",
		"192.0.2.1 tcp/0-65535":                     "192.0.2.1/32 tcp",
		"0.0.0.0/0 tcp/443":                         "0.0.0.0/0 tcp/443",
		"::/0":                                      "::/0",
		"::ffff:192.0.2.0/120":                      "192.0.2.0/24",
		"::ffff:192.0.2.9":                          "192.0.2.9/32",
		"::1":                                       "::1/128",
		"1.1.1.1 #no space":                         "1.1.1.1/32  # no space",
		"1.1.1.1 #":                                 "1.1.1.1/32",
	} {
		r, err := ParseRule(line)
		if err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		if got := r.Line(); got != want {
			t.Errorf("%q is read as %q, want %q", line, got, want)
		}
	}
}

func TestMalformedRuleIsRefusedWithItsColumn(t *testing.T) {
	for line, want := range map[string]string{
		"":                       "column 1: no destination",
		"deny":                   "column 1: no destination",
		"10.0.0.1/8":             "column 1: 10.0.0.1/8 has host bits set: write 10.0.0.0/8, or 10.0.0.1 for the one address",
		"deny 2001:db8::1/32":    "column 6: 2001:db8::1/32 has host bits set: write 2001:db8::/32, or 2001:db8::1 for the one address",
		"0/0":                    `column 1: "0/0" is no IP address or CIDR`,
		"::0/0":                  `column 1: "::0/0": everything is written 0.0.0.0/0 or ::/0`,
		"10.0.0.0/33":            `column 1: "10.0.0.0/33" is no IP address or CIDR`,
		"example.com":            `column 1: "example.com" is no IP address or CIDR`,
		"fe80::1%eth0":           `column 1: "fe80::1%eth0" is no IP address or CIDR`,
		"::ffff:0.0.0.0/96":      "column 1: ::ffff:0.0.0.0/96 is all of IPv4: write 0.0.0.0/0",
		"::10.0.0.0/104":         "column 1: ::a00:0/104 is IPv4-compatible and judged as IPv4: write it as IPv4",
		"1.1.1.1 tcp/443 udp/53": `column 17: unexpected "udp/53": a comment begins with #, ports have no spaces`,
		"1.1.1.1  tcp/443,":      `column 18: protocol "": want tcp, udp, icmp or other`,
		"1.1.1.1 tcp/80,sctp/5":  `column 16: protocol "sctp": want tcp, udp, icmp or other`,
		"1.1.1.1 tcp/70000":      `column 9: "tcp/70000": want a port from 0 to 65535 or a rising range of two`,
		"1.1.1.1 tcp/90-80":      `column 9: "tcp/90-80": want a port from 0 to 65535 or a rising range of two`,
		"1.1.1.1 tcp/080":        `column 9: "tcp/080": want a port from 0 to 65535 or a rising range of two`,
		"1.1.1.1 tcp/":           `column 9: "tcp/": want a port from 0 to 65535 or a rising range of two`,
		"1.1.1.1 icmp/8":         `column 9: "icmp/8": icmp has no ports`,
		"Allow 1.1.1.1":          `column 1: "Allow" is no IP address or CIDR`,
		"1.1.1.1 # a\x1b[2Jb":    "column 12: control character or invalid UTF-8",
		"1.1.1.1 # \xff":         "column 1: control character or invalid UTF-8",
		"1.1.1.1#unspaced":       `column 1: "1.1.1.1#unspaced" is no IP address or CIDR`,
	} {
		_, err := ParseRule(line)
		if fmt.Sprint(err) != want {
			t.Errorf("%q:\n got %v\nwant %s", line, err, want)
		}
	}
}

func TestFileIsReadWhole(t *testing.T) {
	rules, err := ParseFile("lan.allow", []byte("\ufeff# LAN\r\n10.0.0.0/8 # ours\r\n\r\n  \ndeny 10.9.0.0/16\n1.1.1.1 tcp/443"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rules {
		got = append(got, r.Source+" "+string(r.Origin)+" "+r.Line())
	}
	want := []string{"lan.allow:2 file 10.0.0.0/8  # ours", "lan.allow:5 file deny 10.9.0.0/16", "lan.allow:6 file 1.1.1.1/32 tcp/443"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFileWithErrorsNamesThemAllAndGivesNoRules(t *testing.T) {
	rules, err := ParseFile("a.allow", []byte("10.0.0.0/8\n10.0.0.1/8\n10.0.0.0/8 # again\n1.1.1.1 tcp/99999\n"))
	if rules != nil {
		t.Errorf("rules %v", rules)
	}
	want := []string{"a.allow:2:1: 10.0.0.1/8 has host bits", "a.allow:3:1: duplicate of line 1: 10.0.0.0/8", `a.allow:4:9: "tcp/99999"`}
	for i, line := range strings.Split(fmt.Sprint(err), "\n") {
		if i >= len(want) || !strings.HasPrefix(line, want[i]) {
			t.Errorf("line %d of the error: %s", i, line)
		}
	}
}

func TestParseOfStringIsTheRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genRule(t)
		r.Comment = rapid.SampledFrom([]string{"", "why", "a # b", "§ ü"}).Draw(t, "comment")
		got, err := ParseRule(r.Line())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fmt.Sprintf("%#v", r), fmt.Sprintf("%#v", got)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestCommentCannotBreakItsLine(t *testing.T) {
	r := mustRules(t, "1.1.1.1")[0]
	r.Comment = " two\nlines\x1b and \xff "
	if got := r.Line(); got != "1.1.1.1/32  # two lines and ?" {
		t.Errorf("%q", got)
	}
}

func FuzzParseRule(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "deny ::1 tcp/1-2,icmp # x", "::ffff:1.2.3.4 udp", "0.0.0.0/0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		r, err := ParseRule(line)
		if err != nil {
			return
		}
		again, err := ParseRule(r.Line())
		if err != nil || again.Line() != r.Line() || again.ID != r.ID {
			t.Fatalf("%q: %q, then %q (%v)", line, r.Line(), again.Line(), err)
		}
		if _, err := Compile([]Rule{r}, noon); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	})
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte("10.0.0.0/8\n# c\n\ndeny 1.1.1.1 tcp\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, err := ParseFile("f", text)
		if err != nil {
			if rules != nil || !strings.HasPrefix(err.Error(), "f:") {
				t.Fatalf("rules with error %v", err)
			}
			return
		}
		var again strings.Builder
		for _, r := range rules {
			again.WriteString(r.Line() + "\n")
		}
		if got, err := ParseFile("f", []byte(again.String())); err != nil || len(got) != len(rules) {
			t.Fatalf("%d rules, then %d (%v)", len(rules), len(got), err)
		}
	})
}
