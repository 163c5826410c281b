#!/usr/bin/env bash
# Runs all of one host in the foreground, as root: up.sh [flags of egw up].
# Installs what is missing and starts Docker where nobody does.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
	exec sudo --preserve-env=DOCKER_HOST "$0" "$@"
fi
scripts/deps.sh up
# Without systemd: the init script, which gives up where limits cannot be
# raised; then the engine itself. egw up waits for it, and says so.
if [ ! -d /run/systemd/system ] && ! docker version >/dev/null 2>&1; then
	service docker start || setsid dockerd >/var/log/docker.log 2>&1 </dev/null &
fi
exec bin/egw up "$@"
