// Package learner turns observed traffic into proposals: rules that would
// allow what was seen, the removal of rules that nothing uses, and an answer to
// the question whether a workload may leave learn mode. It changes nothing: a
// proposal waits for someone to approve it.
//
// # What is evidence
//
// A flow that names its destination and was judged by a rule of a policy or by
// none. Not evidence: decisions counted without their destination (overflow),
// those of containers that nobody knew, answers to peers that wrote first,
// questions to Docker's resolver, and what found no room in the bounds of
// Limits. What is lost so, and what hosts tell of losses, lowers readiness where
// the workload was seen, and then no rule is called unused.
//
// # How prefixes are chosen
//
// For each protocol and port the addresses that no rule decides are covered
// with prefixes so that
//
//	sum over prefixes of RuleCost + W(prefix)
//
// is least, where W is the number of addresses admitted but never seen (IPv4),
// or RuleCost/8 for each bit that is left open (IPv6, where counting addresses
// means nothing). This is a two-part code as of the minimum description length
// principle (J. Rissanen, "Modeling by shortest data description", Automatica
// 14, 1978): what the rules cost, and what they leave unsaid. RuleCost is thus
// the number of unseen addresses that one rule less is worth.
//
// A prefix is a candidate only if it is no wider than the cap (/24 and /64),
// overlaps no deny rule and no rule that was rejected, and, when it admits
// anything unseen, if at least half of the addresses seen in it were seen over
// an hour or longer, and none is private, link-local, metadata or multicast. So
// a scan does not widen anything, and in the first hour of learning all
// proposals are exact.
//
// The narrowest prefix of a set of addresses is their longest common one, and
// a wider one is never cheaper; so the best cover of a set is that prefix or
// the best covers of its two halves below it, and one pass over the binary
// trie of the n sorted addresses finds the optimum: O(n log n) time, O(n)
// memory. The same dynamic programme over the prefix tree is known from
// aggregating routes (R. Draves et al., "Constructing optimal IP routing
// tables", INFOCOM 1999) and from address-based filters with a budget of
// rules (F. Soldo, K. Argyraki, A. Markopoulou, "Optimal source-based
// filtering of malicious traffic", IEEE/ACM ToN 20(2), 2012).
//
// Ports with the same prefix then share a rule. An address asked on more than
// Limits.WidePorts ports of a protocol gets a rule of its own with the range
// between them, flagged wide_ports.
package learner
