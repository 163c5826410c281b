package enforcer

import (
	"testing"

	"github.com/egresswarden/egresswarden/bpf"
	"github.com/egresswarden/egresswarden/policy"
	"github.com/egresswarden/egresswarden/schemas"
)

func TestTheDoctorsProbeIsToldFromContainers(t *testing.T) {
	e := newBare(t, "web-1", newFakeKernel())
	d := description{ID: "c1", Name: "egw-doctor", Labels: map[string]string{"egress": "block"}}
	if err := e.registry.Put(d); err != nil {
		t.Fatal(err)
	}
	for _, c := range e.registry.List() {
		f := e.flow(&bpf.Event{Index: c.Index, Verdict: policy.VerdictDeny})
		if f.GetReason() != "" || f.GetPolicy() != "egw-doctor" {
			t.Errorf("a container of the probe's name: reason %q, policy %q", f.GetReason(), f.GetPolicy())
		}
	}
	f := e.flow(&bpf.Event{Index: e.registry.MaxContainers - 1, Verdict: policy.VerdictDeny, Count: 1})
	if f.GetReason() != schemas.ReasonDoctor || f.GetPolicy() != "" || f.GetWorkload() != "egw-doctor" || f.GetCount() != 1 {
		t.Errorf("the probe: %v", f)
	}
}
