#!/usr/bin/env bash
# Fails when the generated code in the tree is not what generate.sh writes.
set -euo pipefail
cd "$(dirname "$0")/.."

files=$(git ls-files '*.pb.go' 'bpf/*_bpfe?.go' 'bpf/*.o')
# shellcheck disable=SC2086 # names without spaces, one a word
before=$(sha256sum $files)
scripts/generate.sh
# shellcheck disable=SC2086
after=$(sha256sum $files)
if [ "$before" != "$after" ]; then
	diff <(echo "$before") <(echo "$after") || true
	echo "generated code differs: run 'make generate' and commit" >&2
	exit 1
fi
