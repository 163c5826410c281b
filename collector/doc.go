// Package collector carries what lies in JetStream to Loki, a file or the
// standard output, and acknowledges a message only after the sink has every
// entry of it for good.
//
// A round is the messages that eventlog hands out together. Their events become
// entries, grouped by label set and sorted by time; each label set goes to the
// sink by itself. What a sink will never take is parked in EGW_DEAD with the
// reason; everything else is tried until it works, in order.
package collector
