// Package schemas holds what travels between the processes: the protobuf
// messages, the JSON line, and the names of streams and subjects.
//
// flow.pb.go is generated from egresswarden/v1/flow.proto; flow.schema.json
// describes the line that AppendLine writes.
package schemas
