package eventlog

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/egresswarden/egresswarden/schemas"
)

func TestHostEventsComeBackByHost(t *testing.T) {
	l := connect(t, startServer(t).Options())
	ctx := testContext(t)
	for i, host := range []string{"a", "b.example.org", "a"} {
		e := &schemas.HostEvent{TimeNs: int64(i), Host: host, Kind: "enforcer.started", Detail: map[string]string{"k": "v"}}
		if err := l.PublishHost(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	w := l.FlowWriter("only.flows", testBoot)
	defer w.Close()
	if err := w.Write(ctx, []*schemas.Flow{flow(0)}, stride); err != nil {
		t.Fatal(err)
	}
	flush(t, w)

	if got := collect(t, l.HostEvents(ctx, HostQuery{})); len(got) != 3 {
		t.Errorf("got %d events, want 3", len(got))
	}
	got := collect(t, l.HostEvents(ctx, HostQuery{Host: "a", Last: 1}))
	if len(got) != 1 || got[0].GetTimeNs() != 2 || got[0].GetDetail()["k"] != "v" {
		t.Errorf("last event of a is %v", got)
	}
	hosts, err := l.Hosts(ctx)
	if diff := cmp.Diff([]string{"a", "b.example.org", "only.flows"}, hosts); diff != "" || err != nil {
		t.Errorf("hosts: %v, %v", diff, err)
	}
}
