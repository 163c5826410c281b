package enforcer

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheStatusOfThousandsOfContainersFitsAMessage(t *testing.T) {
	var s Status
	for i := range 4096 {
		c := Container{
			ID: fmt.Sprintf("%064x", i*7919), Name: fmt.Sprintf("shop-web-%d", i), Image: "registry.example.org/shop/web:1", Workload: fmt.Sprintf("w%d", i),
		}
		cs := ContainerStatus{Container: c, Network: "veth", Open: []string{"NET_RAW: packet sockets are not refused by this kernel; cure: cap_drop: [NET_RAW]"}}
		s.Workloads = append(s.Workloads, WorkloadStatus{Workload: c.Workload, Containers: []ContainerStatus{cs}})
	}
	for _, want := range []Status{s, {Host: "web-1"}} {
		data, err := encodeAnswer(want)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 1<<20 {
			t.Errorf("%d bytes: more than a NATS message holds", len(data))
		}
		var got Status
		if err := DecodeAnswer(data, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestABrokenAnswerIsAnError(t *testing.T) {
	var s Status
	for _, data := range []string{"", "{", "\x1f\x8b", "\x1f\x8bxxxxxxxxxxxxx"} {
		if err := DecodeAnswer([]byte(data), &s); err == nil {
			t.Errorf("%q is taken", data)
		}
	}
}
