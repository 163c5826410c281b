// Package schemas holds what travels between the processes: the protobuf
// messages, the JSON line, and the names of streams and subjects.
package schemas
