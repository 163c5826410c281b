package schemas

// The kinds of host events. docs/OPERATIONS.md says what each means, and a test
// holds the two together.
const (
	KindLabelInvalid        = "label.invalid"
	KindPolicyInvalid       = "policy.invalid"
	KindPolicyRefused       = "policy.refused"
	KindPolicyUnreadable    = "policy.unreadable"
	KindPolicyApplied       = "policy.applied"
	KindPolicyLogLost       = "policylog.lost"
	KindPolicyLogUnreadable = "policylog.unreadable"
	KindPolicyLogBack       = "policylog.back"
	KindEventLogAway        = "eventlog.away"
	KindEventLogFailed      = "eventlog.failed"
	KindOutboxFull          = "outbox.full"
	KindHostEventsDropped   = "hostevents.dropped"
	KindSnapshotFailed      = "snapshot.failed"
	KindSnapshotUnreadable  = "snapshot.unreadable"
	KindConnectionsCut      = "connections.cut"
	KindConnectionsKept     = "connections.kept"
	KindConnectionsStanding = "connections.standing"
	KindContainerUncovered  = "container.uncovered"
	KindDNSUnusual          = "dns.unusual"
	KindDockerLost          = "docker.lost"
	KindDockerBack          = "docker.back"
	KindDevicesUnwalled     = "devices.unwalled"
	KindGateDetached        = "gate.detached"
	KindEnforcerStarted     = "enforcer.started"
	KindEnforcerAlive       = "enforcer.alive"
	KindCollectorAlive      = "collector.alive"
)
