package enforcer

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/egresswarden/egresswarden/internal/testutil/cgroup"
	"github.com/egresswarden/egresswarden/policy"
)

// TestFiftyThousandRulesReachTheKernel takes an allow-list through all there
// is: file, event, fold, tables, kernel, and the answer to why.
func TestFiftyThousandRulesReachTheKernel(t *testing.T) {
	const n = 50_000
	h := startHost(t, cgroup.New(t), func(*Config) {})
	server := h.startServer(t)
	t.Cleanup(func() { _ = server.Close() })
	_, index := h.container(t, "large", "block")
	if err := os.MkdirAll(h.cfg.Policies, 0o755); err != nil {
		t.Fatal(err)
	}
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 15), byte(i >> 7), byte(i << 1)}) }
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "%s tcp/443\n", addr(i))
	}
	path := filepath.Join(h.cfg.Policies, "large.rules")
	write(t, h.cfg.Policies, "large.rules", text.String())
	began := time.Now()
	eventually(t, "the last rule is in force", func() bool { return h.allowed(t, index, addr(n-1)) })
	t.Logf("%d rules are in force after %s", n, time.Since(began))
	for i := 0; i < n; i += 997 {
		if !h.allowed(t, index, addr(i)) || h.allowed(t, index, addr(i).Next()) {
			t.Fatalf("rule %d does not admit its address, or the next one", i)
		}
	}
	ask, err := json.Marshal(ExplainRequest{Workload: "large", Dst: addr(n - 1), Proto: policy.ProtoTCP, Port: 443})
	if err != nil {
		t.Fatal(err)
	}
	data, err := h.connect(t).Ask(t.Context(), h.cfg.Host, AskExplain, ask)
	if err != nil {
		t.Fatal(err)
	}
	var why Explanation
	if err := DecodeAnswer(data, &why); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%s:%d", path, n); why.Source != want || why.Judged != "kernel" || why.Verdict != "allow" {
		t.Errorf("explained by %+v, want the rule of %s", why, want)
	}
}
