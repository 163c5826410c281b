package schemas

import (
	"testing"

	"google.golang.org/protobuf/proto"
)

func TestPolicyEventsReadAsJSONWithTheSchemasNames(t *testing.T) {
	e := &PolicyEvent{TimeNs: 5, Actor: "alice", Policy: "*", BasedOn: 3, Change: &PolicyEvent_RuleAdded{RuleAdded: &RuleAdded{
		Rules: []*Rule{{Id: "0000beef", Text: "allow 192.0.2.0/24", ExpiresNs: 9}},
	}}}
	text, err := MarshalJSON(e)
	want := `{"time_ns":"5","actor":"alice","policy":"*","based_on":"3","rule_added":{"rules":[{"id":"0000beef",` +
		`"text":"allow 192.0.2.0/24","expires_ns":"9"}]}}`
	if err != nil || string(text) != want {
		t.Errorf("got %s, %v\nwant %s", text, err, want)
	}
	var back PolicyEvent
	if err := UnmarshalJSON(text, &back); err != nil || !proto.Equal(e, &back) {
		t.Errorf("comes back as %v, %v", &back, err)
	}
}

func TestJSONOfANewerVersionIsRead(t *testing.T) {
	var e HostEvent
	if err := UnmarshalJSON([]byte(`{"kind":"enforcer.started","from_the_future":{"a":[1]}}`), &e); err != nil || e.GetKind() != "enforcer.started" {
		t.Errorf("got %v, %v", &e, err)
	}
	if err := UnmarshalJSON([]byte(`{"kind":`), &e); err == nil {
		t.Error("half a message was read")
	}
}
