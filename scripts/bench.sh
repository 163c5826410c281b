#!/usr/bin/env bash
# Measures what DESIGN promises and writes docs/BENCHMARKS.md. About six
# minutes on two quiet CPUs; needs root and nft. QUICK=1 shows in less than one
# that everything runs, and writes to standard output alone.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "bench: needs root" >&2; exit 1; }
command -v nft >/dev/null || { echo "bench: needs nft (apt-get install nftables)" >&2; exit 1; }
export CGO_ENABLED=0 EGW_PRIVILEGED=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
numbers=$work/numbers

# bench PACKAGE BENCHMARK TIMES [QUICK TIMES]
bench() {
	local times=$3
	[ -z "${QUICK:-}" ] || times=$4
	go test "./$1" -run '^$' -bench "$2" -benchtime "$times" -timeout 20m | tee -a "$numbers" >&2
}

rounds=24
[ -z "${QUICK:-}" ] || rounds=2
go build -o "$work/connect" ./internal/bench/connect
# The lock is the one that privileged tests take.
flock /run/egwtest.lock "$work/connect" -rounds "$rounds" | tee -a "$numbers" >&2

bench bpf 'Decision' 2000000x 100000x
bench bpf 'Flood' 4000000x 100000x
bench eventlog 'RingToJetStream' 1000000x 50000x
bench enforcer 'PolicyLive' 1000x 20x
bench enforcer 'Start' 1x 1x
bench policy 'Replay' 2000000x 100000x
bench learner 'ThousandWorkloads' 1x 1x

go run ./internal/bench/report "$(git rev-parse --short HEAD)" <"$numbers" >"$work/page"
if [ -n "${QUICK:-}" ]; then
	cat "$work/page"
else
	cp "$work/page" docs/BENCHMARKS.md
	echo "bench: wrote docs/BENCHMARKS.md" >&2
fi
