#!/usr/bin/env bash
# Measures, and writes docs/BENCHMARKS.md. As root, on a machine that does
# nothing else; BENCHTIME may be set, as for go test.
set -euo pipefail
cd "$(dirname "$0")/.."

out=docs/BENCHMARKS.md
run=$(mktemp)
trap 'rm -f "$run"' EXIT
EGW_PRIVILEGED=1 go test -run '^$' -bench . -benchtime "${BENCHTIME:-1s}" -timeout 60m -p 1 \
	./bpf ./eventlog ./learner ./policy ./schemas | grep -Ev '^(PASS|\?)' | tee "$run"

{
	echo "# Benchmarks"
	echo
	echo "Written by \`make bench\` on $(date -u +%F), at commit $(git rev-parse --short HEAD)."
	echo "Linux $(uname -r), $(nproc) CPUs, $(go env GOVERSION)."
	echo
	echo "Compare ratios of one run; absolute numbers are this machine's."
	echo
	echo '```'
	cat "$run"
	echo '```'
} >"$out"
