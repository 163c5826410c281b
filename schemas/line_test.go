package schemas

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func fullFlow() *Flow {
	return &Flow{
		Id: "web-1/boot/4096", TimeNs: 1764000000123456789, Host: "web-1", Verdict: Verdict_VERDICT_WOULD_DENY, Count: 3,
		Workload: "shop/web", Policy: "shop/web", Revision: 12, Rule: 0xbeef, Mode: Mode_MODE_LEARN,
		ContainerId: "c0ffee", Container: "shop-web-1", Image: "web:1", CgroupId: 99, Proto: 6,
		DstIp: []byte{203, 0, 113, 9}, DstPort: 443, SrcIp: []byte{172, 17, 0, 2}, SrcPort: 40000,
		Pid: 4711, Uid: 0, Comm: "curl", Hook: "connect", Reason: "reply", Attempt: "IP_OPTIONS",
	}
}

func TestLineHasEveryFieldInOrder(t *testing.T) {
	want := `{"time":"2025-11-24T16:00:00.123456789Z","host":"web-1","verdict":"would_deny","workload":"shop/web",` +
		`"container":"shop-web-1","proto":"tcp","dst_ip":"203.0.113.9","dst_port":443,"count":3,"mode":"learn",` +
		`"policy":"shop/web","revision":12,"rule":"0000beef","comm":"curl","pid":4711,"uid":0,"src_ip":"172.17.0.2",` +
		`"src_port":40000,"image":"web:1","container_id":"c0ffee","hook":"connect","reason":"reply","attempt":"IP_OPTIONS","id":"web-1/boot/4096"}`
	if diff := cmp.Diff(want, string(AppendLine(nil, fullFlow()))); diff != "" {
		t.Error(diff)
	}
}

func TestLineLeavesOutWhatSaysNothing(t *testing.T) {
	f := &Flow{Id: "h/b/0", Host: "h", Verdict: Verdict_VERDICT_DENY, Count: 900, Workload: "w", Proto: 255, Reason: "overflow"}
	want := `{"time":"1970-01-01T00:00:00Z","host":"h","verdict":"deny","workload":"w","proto":"other","count":900,` +
		`"reason":"overflow","id":"h/b/0"}`
	if diff := cmp.Diff(want, string(AppendLine(nil, f))); diff != "" {
		t.Error(diff)
	}
}

func TestLineOfIPv6(t *testing.T) {
	f := fullFlow()
	f.DstIp = append([]byte{0x20, 0x01, 0x0d, 0xb8}, make([]byte, 12)...)
	if line := string(AppendLine(nil, f)); !strings.Contains(line, `"dst_ip":"2001:db8::"`) {
		t.Error(line)
	}
}

func FuzzLineIsJSON(f *testing.F) {
	f.Add("shop/web", "cu\"rl", []byte{1, 2, 3, 4}, uint32(6))
	f.Add("\xff\x00\x1f\\", "\u2028é\x7f", []byte{1}, uint32(132))
	f.Fuzz(func(t *testing.T, name, comm string, ip []byte, proto uint32) {
		flow := &Flow{Workload: name, Comm: comm, DstIp: ip, Proto: proto, Count: 1}
		line := AppendLine(nil, flow)
		var got struct {
			Workload, Comm string
			Count          uint64
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		want := [2]string{validEach(name), validEach(comm)}
		if got.Workload != want[0] || got.Comm != want[1] || got.Count != 1 {
			t.Fatalf("%s: got %q %q, want %q", line, got.Workload, got.Comm, want)
		}
		if strings.ContainsAny(string(line), "\n\r") {
			t.Fatalf("%q holds a line feed", line)
		}
	})
}

func BenchmarkAppendLine(b *testing.B) {
	f := fullFlow()
	var line []byte
	b.ReportAllocs()
	for b.Loop() {
		line = AppendLine(line[:0], f)
	}
}

// validEach replaces every byte that is not UTF-8 by one U+FFFD.
func validEach(s string) string { return string([]rune(s)) }
