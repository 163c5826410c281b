package docker

import "path/filepath"

// Option changes the engine that Start runs.
type Option func(*Daemon)

// Remapped gives containers a user namespace, in which their root is nobody's
// on the host.
func Remapped(d *Daemon) { d.remapped = true }

// The user and group of that name exist everywhere; which ids are subordinate
// to them the engine reads in a mount namespace of its own.
const (
	remapUser   = "daemon"
	subordinate = remapUser + ":231072:65536\n"
)

// remappedCommand starts an engine so that it finds the subordinate ids.
func remappedCommand(engine []string) []string {
	const script = `mount --bind "$0" /etc/subuid && mount --bind "$0" /etc/subgid && exec "$@" --userns-remap ` + remapUser
	return append([]string{"unshare", "--mount", "sh", "-c", script, filepath.Join(runDir, "subid")}, engine...)
}
