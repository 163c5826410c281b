#!/usr/bin/env bash
# Prints the folder with the real Loki that tests run against: loki and
# lokitool. What is missing is built first, which takes minutes once and about
# 5 GB: the folder is kept in the user's cache, outside of the tree. Loki is
# AGPL and a program of the tests alone; see tools/loki/go.mod.
set -euo pipefail
cd "$(dirname "$0")/../tools/loki"

cache="${XDG_CACHE_HOME:-$HOME/.cache}/egresswarden"
packages="github.com/grafana/loki/v3/cmd/loki github.com/grafana/loki/v3/cmd/lokitool"
version=$(awk '$1 == "github.com/grafana/loki/v3" {print $2; exit}' go.mod)
# Another list of modules is another Loki.
folder="$cache/loki-$version-$(cat go.mod go.sum | sha256sum | head -c 8)"

say() { printf '%s\n' "$*" >&2; }
built() { [ -x "$folder/loki" ] && [ -x "$folder/lokitool" ]; }

# The same flags as of the project, so that the standard library is shared.
export CGO_ENABLED=0 GOFLAGS=-trimpath

# fetch reads every package that the build needs; only this is tried again.
fetch() {
	local n
	for n in 1 2 3 4 5; do
		# shellcheck disable=SC2086 # two words
		go list -deps $packages >"$aside/deps" 2>"$aside/log" && return
		tail -n 5 "$aside/log" >&2
		say "loki: modules not downloaded, attempt $n"
		sleep $((n * 5))
	done
	return 1
}

# tell says every few seconds how far the job is, until it ends.
tell() {
	local job=$1 file=$2 what=$3 next=0
	while kill -0 "$job" 2>/dev/null; do
		if [ "$SECONDS" -ge "$next" ]; then
			say "loki: $SECONDS s, $(wc -l <"$file") $what"
			next=$((SECONDS + 5))
		fi
		sleep 0.2
	done
	wait "$job"
}

build() {
	aside=$(mktemp -d "$cache/aside-XXXXXX")
	trap 'rm -rf "$aside"' EXIT
	say "loki: $version is not in $cache: it is built once, in about six minutes on two cores"
	: >"$aside/log"
	fetch &
	tell $! "$aside/log" "modules fetched"
	# shellcheck disable=SC2086
	go build -v -ldflags "-s -w" -o "$aside/bin/" $packages 2>"$aside/log" &
	tell $! "$aside/log" "of $(wc -l <"$aside/deps") packages compiled" || {
		tail -n 20 "$aside/log" >&2
		return 1
	}
	mv -T "$aside/bin" "$folder"
	say "loki: built in $SECONDS s"
}

mkdir -p "$cache"
# Two runs at a time build it once.
exec 9>"$cache/loki.lock"
if ! flock -n 9; then
	say "loki: another build is at work, waiting"
	flock 9
fi
built || build
echo "$folder"
