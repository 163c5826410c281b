#!/usr/bin/env bash
# Installs Debian packages, as root: deps.sh build|up|test|dev|vm. What is there already
# is left alone.
# Only the downloads are tried again.
set -euo pipefail

case "${1:-}" in
build) packages="git make ca-certificates" ;;
up) packages="git make ca-certificates docker.io iptables" ;;
test) packages="git make gcc libc6-dev docker.io containerd runc apparmor iptables iproute2 kmod procps" ;;
dev) packages="git make clang-19 llvm-19 clang-format-19 protobuf-compiler" ;;
vm) packages="git make qemu-system-x86 kmod xz-utils debootstrap e2fsprogs systemd" ;;
*)
	echo "usage: $0 build|up|test|dev|vm" >&2
	exit 2
	;;
esac

export DEBIAN_FRONTEND=noninteractive
retry() {
	local n
	for n in 1 2 3 4 5; do
		"$@" && return
		echo "$0: '$*' failed, attempt $n" >&2
		sleep $((n * 5))
	done
	return 1
}

missing() {
	local p
	for p in $packages; do
		dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || return 0
	done
	return 1
}
missing || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "$0: as root, install: $packages" >&2
	exit 1
fi

retry apt-get -o Acquire::Retries=3 -qq update
# The tests run an engine of their own: the packaged one need not start.
if [ "$1" != up ] && [ ! -e /usr/sbin/policy-rc.d ]; then
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
	chmod +x /usr/sbin/policy-rc.d
	trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
# shellcheck disable=SC2086 # a list of words
retry apt-get -qq -y --no-install-recommends install $packages
