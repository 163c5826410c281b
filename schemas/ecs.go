package schemas

import (
	"strconv"
	"time"
)

// ecsVersion is that of the Elastic Common Schema.
const ecsVersion = "8.17.0"

type ecsEvent struct {
	Time        string        `json:"@timestamp"`
	ECS         ecsSchema     `json:"ecs"`
	Event       ecsWhat       `json:"event"`
	Host        ecsName       `json:"host"`
	Observer    ecsObserver   `json:"observer"`
	Container   *ecsContainer `json:"container,omitempty"`
	Process     *ecsProcess   `json:"process,omitempty"`
	User        *ecsID        `json:"user,omitempty"`
	Source      *ecsEndpoint  `json:"source,omitempty"`
	Destination *ecsEndpoint  `json:"destination,omitempty"`
	Network     ecsNetwork    `json:"network"`
	Rule        *ecsRule      `json:"rule,omitempty"`
	Own         ecsOwn        `json:"egresswarden"`
}

type ecsSchema struct {
	Version string `json:"version"`
}

type ecsWhat struct {
	ID       string   `json:"id"`
	Kind     string   `json:"kind"`
	Category []string `json:"category"`
	Type     []string `json:"type"`
	Action   string   `json:"action"`
	Outcome  string   `json:"outcome"`
	Reason   string   `json:"reason,omitempty"`
	Module   string   `json:"module"`
	Dataset  string   `json:"dataset"`
}

type ecsName struct {
	Name string `json:"name"`
}

type ecsID struct {
	ID string `json:"id"`
}

type ecsObserver struct {
	Vendor  string `json:"vendor"`
	Product string `json:"product"`
	Type    string `json:"type"`
}

type ecsContainer struct {
	ID    string   `json:"id,omitempty"`
	Name  string   `json:"name,omitempty"`
	Image *ecsName `json:"image,omitempty"`
}

type ecsProcess struct {
	PID  uint32 `json:"pid"`
	Name string `json:"name,omitempty"`
}

type ecsEndpoint struct {
	Address string  `json:"address"`
	IP      string  `json:"ip"`
	Port    *uint32 `json:"port,omitempty"`
}

type ecsNetwork struct {
	Direction string `json:"direction"`
	Transport string `json:"transport,omitempty"`
	IANA      string `json:"iana_number,omitempty"`
	Type      string `json:"type,omitempty"`
}

type ecsRule struct {
	ID      string `json:"id,omitempty"`
	Ruleset string `json:"ruleset,omitempty"`
	Version string `json:"version,omitempty"`
}

// ecsOwn is what the schema has no field for.
type ecsOwn struct {
	Verdict  string `json:"verdict"`
	Count    uint64 `json:"count"`
	Workload string `json:"workload,omitempty"`
	Mode     string `json:"mode,omitempty"`
	Hook     string `json:"hook,omitempty"`
	Attempt  string `json:"attempt,omitempty"`
}

// AppendECS appends the flow as one event of the Elastic Common Schema, without
// a line feed.
func AppendECS(dst []byte, f *Flow) []byte {
	e := ecsEvent{
		Time: time.Unix(0, f.GetTimeNs()).UTC().Format(time.RFC3339Nano), ECS: ecsSchema{ecsVersion},
		Event: ecsWhat{
			ID: f.GetId(), Kind: "event", Category: []string{"network"}, Type: []string{"connection"}, Action: f.GetVerdict().Word(),
			Outcome: "unknown", Reason: f.GetReason(), Module: "egresswarden", Dataset: "egresswarden.flow",
		},
		Host: ecsName{f.GetHost()}, Observer: ecsObserver{"egresswarden", "egresswarden", "firewall"},
		Source: ecsAddress(f, f.GetSrcIp(), f.SrcPort), Destination: ecsAddress(f, f.GetDstIp(), f.DstPort), Network: ecsNetworkOf(f),
		Own: ecsOwn{f.GetVerdict().Word(), f.GetCount(), f.GetWorkload(), f.GetMode().Word(), f.GetHook(), f.GetAttempt()},
	}
	switch f.GetVerdict() {
	case Verdict_VERDICT_DENY:
		e.Event.Type, e.Event.Outcome = append(e.Event.Type, "denied"), "failure"
	case Verdict_VERDICT_ALLOW, Verdict_VERDICT_WOULD_DENY: // it went out
		e.Event.Type, e.Event.Outcome = append(e.Event.Type, "allowed"), "success"
	}
	e.who(f)
	if f.GetRule() != 0 || f.GetPolicy() != "" {
		e.Rule = &ecsRule{ruleWord(f.GetRule()), f.GetPolicy(), numberWord(f.GetRevision())}
	}
	return appendJSON(dst, e)
}

// who fills in the container and the process.
func (e *ecsEvent) who(f *Flow) {
	if f.GetContainer() != "" || f.GetContainerId() != "" {
		e.Container = &ecsContainer{ID: f.GetContainerId(), Name: f.GetContainer()}
		if f.GetImage() != "" {
			e.Container.Image = &ecsName{f.GetImage()}
		}
	}
	if f.GetPid() != 0 {
		e.Process, e.User = &ecsProcess{f.GetPid(), f.GetComm()}, &ecsID{decimal(uint64(f.GetUid()))}
	}
}

func ecsAddress(f *Flow, ip []byte, port uint32) *ecsEndpoint {
	address := addressWord(ip)
	if address == "" {
		return nil
	}
	e := &ecsEndpoint{Address: address, IP: address}
	if hasPort(f, ip) && port != 0 {
		e.Port = &port
	}
	return e
}

func ecsNetworkOf(f *Flow) ecsNetwork {
	n := ecsNetwork{Direction: "egress", IANA: numberWord(uint64(ianaNumber(f)))}
	if f.GetProto() == 6 || f.GetProto() == 17 {
		n.Transport = ProtoWord(f.GetProto())
	}
	if v := ipVersion(f.GetDstIp()); v != 0 {
		n.Type = "ipv" + strconv.Itoa(v)
	}
	return n
}

// numberWord is empty for 0, which says nothing.
func numberWord(n uint64) string {
	if n == 0 {
		return ""
	}
	return decimal(n)
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

// ruleWord is the rule as the line has it, empty for none.
func ruleWord(rule uint32) string {
	if rule == 0 {
		return ""
	}
	return string(appendHex(nil, rule))
}
