#!/usr/bin/env bash
# Writes the generated code. The versions of clang and protoc are part of the
# output: clang 19 and Debian 12's protoc 3.21.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
# Of the version that go.mod names, as the code that it writes for.
go build -o "$bin/protoc-gen-go" google.golang.org/protobuf/cmd/protoc-gen-go
PATH="$bin:$PATH" protoc -I schemas --go_out=. \
	--go_opt=module=github.com/egresswarden/egresswarden \
	egresswarden/v1/flow.proto
go generate ./...
