package adversary

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTechniquesAreTold(t *testing.T) {
	seen := map[string]bool{}
	all := All()
	if len(all) >= 1<<numberBits || len(all) > 999 {
		t.Fatalf("%d techniques do not fit into a mark", len(all))
	}
	for _, w := range all {
		if seen[w.String()] {
			t.Errorf("%s is there twice", w)
		}
		seen[w.String()] = true
		if w.Name == "" || w.How == "" || w.run == nil || strings.Contains(w.Name+w.How, "|") {
			t.Errorf("%+v: want a name, a line on how, and a function; without bars", w)
		}
		if w.Phase == PhaseFirst != w.Allowed {
			t.Errorf("%s: phase %d, allowed %v", w, w.Phase, w.Allowed)
		}
	}
}

// frame puts a packet behind an Ethernet header.
func frame(ip []byte) []byte {
	b := make([]byte, 12)
	return append(append(b, byte(etherType(ip)>>8), byte(etherType(ip))), ip...)
}

func TestFind(t *testing.T) {
	m, other := Mark{MostRuns, 777}, Mark{3, 5}
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:7::1")
	udp := func(from, to netip.Addr, port uint16, text string) []byte {
		return frame(ipPacket(from, to, unix.IPPROTO_UDP, udpPacket(from, to, 9, port, []byte(text))))
	}
	for _, c := range []struct {
		name  string
		frame []byte
		want  []Mark
	}{
		{"a destination", udp(four, m.Addr4(), 443, "-"), []Mark{m}},
		{"a destination of IPv6", udp(six, m.Addr6(), 443, "-"), []Mark{m}},
		{"an address within one of 6to4", udp(six, m.in(netip.MustParseAddr("2002::1"), 2), 443, "-"), []Mark{m}},
		{"a port", udp(four, four, m.Port(), "-"), []Mark{m}},
		{"a port of IPv6", udp(six, six, m.Port(), "-"), []Mark{m}},
		{"a text, before the address", udp(four, other.Addr4(), 443, m.Text()), []Mark{m}},
		{"two groups", append(other.Group4().AsSlice(), m.Group4().AsSlice()...), []Mark{other, m}},
		{"a frame of nobody's", udp(four, four, 443, "hello"), nil},
		{"a segment whose number looks like an address", numbered(four, m), nil},
		{"a segment to a destination", numbered(m.Addr4(), other), []Mark{m}},
		{"nothing", nil, nil},
		{"a beginning of a text", []byte(m.Text()[:textLen-1]), nil},
	} {
		if got := Find(c.frame); !slices.Equal(got, c.want) {
			t.Errorf("%s: found %v, want %v", c.name, got, c.want)
		}
	}
}

// numbered is a segment with a sequence number like the mark's address.
func numbered(to netip.Addr, m Mark) []byte {
	segment := tcpPacket(netip.MustParseAddr("192.0.2.1"), to, 9, 443, []byte("-"))
	copy(segment[4:], m.Addr4().AsSlice())
	return frame(ipPacket(netip.MustParseAddr("192.0.2.1"), to, unix.IPPROTO_TCP, segment))
}

func TestMarksAreApart(t *testing.T) {
	ports := map[uint16]Mark{}
	for run := 1; run <= MostRuns; run++ {
		for n := range All() {
			m := Mark{run, n}
			if other, ok := ports[m.Port()]; ok || m.Port() > 32767 {
				t.Fatalf("%v and %v have port %d", m, other, m.Port())
			}
			ports[m.Port()] = m
			if got, ok := fromBits(m.bits()); !ok || got != m {
				t.Fatalf("%v reads %v", m, got)
			}
		}
	}
}

func TestProgram(t *testing.T) {
	for _, args := range [][]string{nil, {"run"}, {"run", "?"}, {"fly", "{}"}, {"one", "{}"}, {"one", "{}", "9999"}, {"child", "send"}} {
		var out, errs bytes.Buffer
		if rc := Main(args, &out, &errs); rc != 2 || errs.Len() == 0 {
			t.Errorf("%v: exit %d, %q", args, rc, &errs)
		}
	}
	t.Run("one technique is reported in one line", func(t *testing.T) {
		n := slices.IndexFunc(All(), func(w Technique) bool { return w.Name == "other families" })
		number, _ := json.Marshal(n)
		var out, errs bytes.Buffer
		if rc := Main([]string{"one", `{"run":1}`, string(number)}, &out, &errs); rc != 0 {
			t.Fatalf("exit %d: %s", rc, &errs)
		}
		all, err := Parse(&out)
		if err != nil || len(all) != 1 || all[0].Number != n || all[0].Technique != "other families" || all[0].Saw() == "ok" {
			t.Errorf("%+v, %v", all, err)
		}
	})
}
