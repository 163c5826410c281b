// Package eventlog is the one place that knows JetStream: the streams, how
// flows, host events and policy events get into them and out again, questions
// to a host, and the embedded server.
//
// A Log is a connection to a NATS server, embedded or not. It reconnects for
// ever; what fails while the server is away is tried again until the caller's
// context ends.
package eventlog
