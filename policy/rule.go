package policy

import (
	"net/netip"
	"time"
)

// Origin tells where a rule comes from.
type Origin string

// The origins. A rule from a file is changed in the file alone.
const (
	OriginFile     Origin = "file"
	OriginOperator Origin = "operator"
	OriginProposal Origin = "proposal"
)

// PortRange is a protocol with an inclusive range of ports. 0-65535 is every
// port; protocols without ports use that range.
type PortRange struct {
	Proto       Proto
	First, Last uint16
}

// Rule allows or denies a destination.
type Rule struct {
	// ID is eight hex digits: Number of the rule, which the kernel reports.
	ID     string
	Action Action
	// Prefix is masked; an IPv4-mapped prefix is held as IPv4.
	Prefix netip.Prefix
	// Ports, sorted and merged; none means every protocol and port.
	Ports   []PortRange
	Origin  Origin
	Owner   string
	Comment string
	// Source is file:line for a rule from a file.
	Source string
	// Expires is when the rule ends; zero is never.
	Expires time.Time
}

// Numbers of the decisions that no rule of a policy makes.
const (
	// RuleNone: nothing matched, the default.
	RuleNone uint32 = 0
	// RuleResolver: Docker's embedded resolver 127.0.0.11, allowed unless the
	// label egress.dns=deny.
	RuleResolver uint32 = 1
	// RuleReply: a UDP answer to a peer that wrote first.
	RuleReply uint32 = 2
	// RuleSocket: a socket that no destination can be asked of, refused unless the
	// label egress.raw=allow.
	RuleSocket uint32 = 3
	// RuleOption: an option that leads packets astray, refused.
	RuleOption uint32 = 4
	// RuleReserved is the first number that a rule of a policy may have.
	RuleReserved uint32 = 16
)

// Match is what a policy says of a destination: the action, and the number of
// the rule that decided.
type Match struct {
	Action Action
	Rule   uint32
}

// Table is a compiled policy: two prefix tables with exact answers by longest
// match, and the ports of the entries that depend on them.
type Table struct {
	// Prefixes are the entries of both families, in no family mixed: IPv4
	// destinations are matched against IPv4 prefixes alone.
	Prefixes []PrefixEntry
	// Ports belong to the entries with a Set.
	Ports []PortEntry

	index index
}

// PrefixEntry is the answer for the addresses whose longest match it is.
type PrefixEntry struct {
	Prefix netip.Prefix
	Match
	// Set, if not 0, sends the question on to the ports of that set; without
	// a match there the answer is the entry's own Match.
	Set uint32
}

// PortEntry answers for the ports of a protocol in a set that share the Bits
// leading bits of Port; the longest such entry answers.
type PortEntry struct {
	Set   uint32
	Proto Proto
	Port  uint16
	// Bits is 0 to 16: 16 is one port, 0 all ports of the protocol.
	Bits uint8
	Match
}

// Policy is a named set of rules at a revision.
type Policy struct {
	Name string
	// Revision is that of the last event that changed the rules.
	Revision uint64
	Rules    []Rule
}
