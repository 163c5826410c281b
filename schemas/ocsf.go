package schemas

import (
	"cmp"
	"encoding/json"
	"net/netip"
)

// ocsfVersion is that of the Open Cybersecurity Schema Framework.
const ocsfVersion = "1.9.0"

// ocsfClass is Network Activity, of the category Network Activity.
const (
	ocsfClass    = 4001
	ocsfCategory = 4
)

// The activities, by the class's numbers.
const (
	ocsfOpen    = 1
	ocsfRefuse  = 5
	ocsfTraffic = 6
)

type ocsfEvent struct {
	ClassUID     int           `json:"class_uid"`
	ClassName    string        `json:"class_name"`
	CategoryUID  int           `json:"category_uid"`
	CategoryName string        `json:"category_name"`
	ActivityID   int           `json:"activity_id"`
	ActivityName string        `json:"activity_name"`
	TypeUID      int           `json:"type_uid"`
	TypeName     string        `json:"type_name"`
	Time         int64         `json:"time"`
	Count        uint64        `json:"count"`
	SeverityID   int           `json:"severity_id"`
	Severity     string        `json:"severity"`
	ActionID     int           `json:"action_id"`
	Action       string        `json:"action"`
	Disposition  int           `json:"disposition_id"`
	DispositionW string        `json:"disposition"`
	IsAlert      bool          `json:"is_alert"`
	Metadata     ocsfMetadata  `json:"metadata"`
	Device       ocsfDevice    `json:"device"`
	Actor        *ocsfActor    `json:"actor,omitempty"`
	Src          ocsfEndpoint  `json:"src_endpoint"`
	Dst          *ocsfEndpoint `json:"dst_endpoint,omitempty"`
	Connection   ocsfConn      `json:"connection_info"`
	Observation  int           `json:"observation_point_id"`
	Policy       *ocsfPolicy   `json:"policy,omitempty"`
	Rule         *ocsfEntity   `json:"firewall_rule,omitempty"`
	Unmapped     ocsfUnmapped  `json:"unmapped"`
}

type ocsfMetadata struct {
	Version  string      `json:"version"`
	Product  ocsfProduct `json:"product"`
	Profiles []string    `json:"profiles"`
	UID      string      `json:"uid"`
}

type ocsfProduct struct {
	Name   string `json:"name"`
	Vendor string `json:"vendor_name"`
}

type ocsfDevice struct {
	Hostname string `json:"hostname"`
	TypeID   int    `json:"type_id"`
}

type ocsfActor struct {
	Process ocsfProcess `json:"process"`
}

type ocsfProcess struct {
	PID  uint32     `json:"pid"`
	Name string     `json:"name,omitempty"`
	User ocsfEntity `json:"user"`
}

type ocsfEntity struct {
	UID  string `json:"uid,omitempty"`
	Name string `json:"name,omitempty"`
}

type ocsfEndpoint struct {
	IP        string         `json:"ip,omitempty"`
	Port      *uint32        `json:"port,omitempty"`
	Name      string         `json:"name,omitempty"`
	UID       string         `json:"uid,omitempty"`
	Container *ocsfContainer `json:"container,omitempty"`
}

type ocsfContainer struct {
	ocsfEntity
	Image *ocsfEntity `json:"image,omitempty"`
}

type ocsfConn struct {
	DirectionID int    `json:"direction_id"`
	Direction   string `json:"direction"`
	Protocol    string `json:"protocol_name"`
	Number      uint32 `json:"protocol_num,omitempty"`
	Version     int    `json:"protocol_ver_id,omitempty"`
}

type ocsfPolicy struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
}

// ocsfUnmapped is what the class has no place for.
type ocsfUnmapped struct {
	Verdict  string `json:"verdict"`
	Workload string `json:"workload,omitempty"`
	Mode     string `json:"mode,omitempty"`
	Hook     string `json:"hook,omitempty"`
	Attempt  string `json:"attempt,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// ocsfOutcome is what a verdict is in the profile Security Control.
type ocsfOutcome struct {
	action, disposition, severity             int
	actionWord, dispositionWord, severityWord string
}

var ocsfOutcomes = map[Verdict]ocsfOutcome{
	Verdict_VERDICT_ALLOW:      {1, 1, 1, "Allowed", "Allowed", "Informational"},
	Verdict_VERDICT_DENY:       {2, 2, 3, "Denied", "Blocked", "Medium"},
	Verdict_VERDICT_WOULD_DENY: {3, 17, 2, "Observed", "Logged", "Low"},
}

// AppendOCSF appends the flow as one OCSF Network Activity event with the
// profiles Security Control, Host and Container, without a line feed.
func AppendOCSF(dst []byte, f *Flow) []byte {
	outcome, ok := ocsfOutcomes[f.GetVerdict()]
	if !ok {
		outcome = ocsfOutcome{0, 0, 0, "Unknown", "Unknown", "Unknown"}
	}
	activity, word := ocsfActivity(f)
	e := ocsfEvent{
		ClassUID: ocsfClass, ClassName: "Network Activity", CategoryUID: ocsfCategory, CategoryName: "Network Activity",
		ActivityID: activity, ActivityName: word, TypeUID: ocsfClass*100 + activity, TypeName: "Network Activity: " + word,
		Time: f.GetTimeNs() / 1e6, Count: f.GetCount(), SeverityID: outcome.severity, Severity: outcome.severityWord,
		ActionID: outcome.action, Action: outcome.actionWord, Disposition: outcome.disposition, DispositionW: outcome.dispositionWord,
		IsAlert: f.GetVerdict() == Verdict_VERDICT_DENY,
		Metadata: ocsfMetadata{
			Version: ocsfVersion, Product: ocsfProduct{"egresswarden", "egresswarden"},
			Profiles: []string{"security_control", "host", "container"}, UID: f.GetId(),
		},
		Device: ocsfDevice{Hostname: f.GetHost()}, Actor: ocsfActorOf(f), Src: ocsfSource(f), Dst: ocsfDestination(f),
		Connection: ocsfConnection(f), Observation: 1,
		Unmapped: ocsfUnmapped{f.GetVerdict().Word(), f.GetWorkload(), f.GetMode().Word(), f.GetHook(), f.GetAttempt(), f.GetReason()},
	}
	if f.GetPolicy() != "" {
		e.Policy = &ocsfPolicy{f.GetPolicy(), numberWord(f.GetRevision())}
	}
	if f.GetRule() != 0 {
		e.Rule = &ocsfEntity{UID: ruleWord(f.GetRule())}
	}
	return appendJSON(dst, e)
}

// ocsfActivity: what was refused never opened; a connect to a stream opens; all
// else is traffic.
func ocsfActivity(f *Flow) (int, string) {
	switch {
	case f.GetVerdict() == Verdict_VERDICT_DENY:
		return ocsfRefuse, "Refuse"
	case f.GetHook() == "connect" && f.GetProto() == 6:
		return ocsfOpen, "Open"
	}
	return ocsfTraffic, "Traffic"
}

func ocsfActorOf(f *Flow) *ocsfActor {
	if f.GetPid() == 0 {
		return nil
	}
	return &ocsfActor{ocsfProcess{PID: f.GetPid(), Name: f.GetComm(), User: ocsfEntity{UID: decimal(uint64(f.GetUid()))}}}
}

func ocsfSource(f *Flow) ocsfEndpoint {
	e := ocsfEndpoint{IP: addressWord(f.GetSrcIp()), Name: cmp.Or(f.GetContainer(), f.GetWorkload()), UID: f.GetContainerId()}
	if f.GetSrcPort() != 0 {
		e.Port = &f.SrcPort
	}
	if f.GetContainer() != "" || f.GetContainerId() != "" {
		e.Container = &ocsfContainer{ocsfEntity: ocsfEntity{f.GetContainerId(), f.GetContainer()}}
		if f.GetImage() != "" {
			e.Container.Image = &ocsfEntity{Name: f.GetImage()}
		}
	}
	return e
}

func ocsfDestination(f *Flow) *ocsfEndpoint {
	if len(f.GetDstIp()) == 0 {
		return nil
	}
	e := &ocsfEndpoint{IP: addressWord(f.GetDstIp())}
	if hasPort(f, f.GetDstIp()) {
		e.Port = &f.DstPort
	}
	return e
}

func ocsfConnection(f *Flow) ocsfConn {
	return ocsfConn{2, "Outbound", ProtoWord(f.GetProto()), ianaNumber(f), ipVersion(f.GetDstIp())}
}

// ianaNumber is the protocol's; 0 where ours stands for several.
func ianaNumber(f *Flow) uint32 {
	if f.GetProto() == protoOther {
		return 0
	}
	return f.GetProto()
}

func ipVersion(ip []byte) int { return map[int]int{4: 4, 16: 6}[len(ip)] }

func addressWord(ip []byte) string {
	if a, ok := netip.AddrFromSlice(ip); ok {
		return a.String()
	}
	return ""
}

func appendJSON(dst []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // of words and numbers it does not fail
	}
	return append(dst, text...)
}
