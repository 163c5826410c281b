package bpf

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
)

const layoutFile = "testdata/layout.txt"

var update = flag.Bool("update", false, "write golden files")

// layoutOfNumber is what Layout stands for: whoever changes the maps or structs
// changes the number, and then this.
const layoutOfNumber = 5

func TestTheLayoutNumberChangesWithTheLayout(t *testing.T) {
	spec, err := loadGate()
	if err != nil {
		t.Fatal(err)
	}
	got := describeLayout(spec)
	if *update {
		if err := os.WriteFile(layoutFile, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(layoutFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" || layoutOfNumber != Layout {
		t.Errorf("the layout is not that of number %d: raise Layout and layoutOfNumber, run with -update\n%s", layoutOfNumber, diff)
	}
}

// describeLayout writes down all that programs and pinned maps must agree on.
func describeLayout(spec *ebpf.CollectionSpec) string {
	var lines []string
	for name, m := range spec.Maps {
		if name == ".bss" {
			continue
		}
		line := fmt.Sprintf("map %s %s key=%d value=%d flags=%d", name, m.Type, m.KeySize, m.ValueSize, m.Flags)
		if in := m.InnerMap; in != nil {
			line += fmt.Sprintf(" of %s key=%d value=%d flags=%d", in.Type, in.KeySize, in.ValueSize, in.Flags)
		}
		lines = append(lines, line)
	}
	for _, name := range []string{
		"state", "header", "setting", "lpm_v4", "lpm_v6", "lpm_ports", "prefix_value", "port_value", "flow_key",
		"detail", "flow", "event", "counts", "overflow", "asked", "peer_key", "heard_key", "container_id", "addr",
	} {
		var s *btf.Struct
		if err := spec.Types.TypeByName(name, &s); err != nil {
			lines = append(lines, fmt.Sprintf("struct %s: %v", name, err))
			continue
		}
		line := fmt.Sprintf("struct %s %d", name, s.Size)
		for _, m := range s.Members {
			line += fmt.Sprintf(" %s@%d", m.Name, m.Offset.Bytes())
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}
