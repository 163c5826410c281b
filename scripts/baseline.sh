#!/usr/bin/env bash
# Makes the schemas as they are the ones that later changes are held against.
# Run it when a release is made.
set -euo pipefail
cd "$(dirname "$0")/.."

go tool -modfile=tools/buf/go.mod buf breaking --against schemas/baseline.binpb
go tool -modfile=tools/buf/go.mod buf build --exclude-source-info -o schemas/baseline.binpb
