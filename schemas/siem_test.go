package schemas

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
)

var update = flag.Bool("update", false, "write the golden files anew")

// samples are flows of every kind.
func samples() []*Flow {
	change := func(fn func(*Flow)) *Flow {
		f := proto.Clone(fullFlow()).(*Flow)
		fn(f)
		return f
	}
	return []*Flow{
		fullFlow(),
		change(func(f *Flow) { f.Verdict, f.Mode, f.Reason = Verdict_VERDICT_ALLOW, Mode_MODE_BLOCK, "" }),
		change(func(f *Flow) {
			f.Verdict, f.Mode, f.Rule, f.Proto, f.DstPort, f.Hook = Verdict_VERDICT_DENY, Mode_MODE_BLOCK, 0, 17, 53, "sendmsg"
			f.DstIp, f.SrcIp, f.SrcPort = append([]byte{0x20, 0x01, 0x0d, 0xb8}, make([]byte, 12)...), nil, 0
		}),
		{Id: "h/b/0", Host: "h", Verdict: Verdict_VERDICT_DENY, Count: 900, Workload: "w", Proto: 255, Reason: "overflow"},
		{Id: "h/b/8", Host: "h", Verdict: Verdict_VERDICT_DENY, Count: 1, Workload: "w", Proto: 255, Hook: "sock_create", Attempt: "inet raw socket"},
		{},
	}
}

func TestSIEMOutputsAreGolden(t *testing.T) {
	for name, line := range map[string]func([]byte, *Flow) []byte{"ocsf": AppendOCSF, "ecs": AppendECS} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			for _, f := range samples() {
				if err := json.Indent(&got, line(nil, f), "", "  "); err != nil {
					t.Fatal(err)
				}
				got.WriteByte('\n')
			}
			path := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestOCSFKeepsWhatTheClassRequires(t *testing.T) {
	for _, f := range samples() {
		var e struct {
			ClassUID   int   `json:"class_uid"`
			ActivityID int   `json:"activity_id"`
			TypeUID    int   `json:"type_uid"`
			Time       int64 `json:"time"`
			Metadata   struct{ UID string }
			Src        map[string]any `json:"src_endpoint"`
			Dst        map[string]any `json:"dst_endpoint"`
		}
		if err := json.Unmarshal(AppendOCSF(nil, f), &e); err != nil {
			t.Fatal(err)
		}
		if e.TypeUID != e.ClassUID*100+e.ActivityID || e.Time != f.TimeNs/1e6 || e.Metadata.UID != f.Id || e.Src == nil {
			t.Errorf("%+v", e)
		}
		if (e.Dst == nil) != (len(f.DstIp) == 0) {
			t.Errorf("a destination %v of %v", e.Dst, f.DstIp)
		}
	}
}

func FuzzSIEMOutputsAreJSONOfOneLine(f *testing.F) {
	f.Add("shop/web", "cu\"rl\n", []byte{1, 2, 3, 4}, uint32(6))
	f.Add("\xff\x00\x1f\\", "\u2028é\x7f", []byte{1}, uint32(255))
	f.Fuzz(func(t *testing.T, workload, comm string, ip []byte, protocol uint32) {
		flow := &Flow{Workload: workload, Comm: comm, Container: comm, Pid: 1, DstIp: ip, SrcIp: ip, Proto: protocol, DstPort: protocol}
		for _, line := range [][]byte{AppendOCSF(nil, flow), AppendECS(nil, flow)} {
			if !json.Valid(line) || bytes.ContainsRune(line, '\n') {
				t.Errorf("%q", line)
			}
		}
	})
}
