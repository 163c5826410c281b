package bpf

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// CgroupRoot finds the root of the cgroup v2 hierarchy: the mount of the whole
// of it, on a pure v2 host and on a hybrid one. ErrCgroup if there is none.
func CgroupRoot() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("find cgroup v2: %w", err)
	}
	defer f.Close()
	found := ""
	for s := bufio.NewScanner(f); s.Scan(); {
		root, point, fs := parseMount(s.Text())
		if fs == "cgroup2" && root == "/" && found == "" {
			found = point
		}
	}
	if found == "" {
		return "", fmt.Errorf("find cgroup v2 in /proc/self/mountinfo: %w", ErrCgroup)
	}
	return found, nil
}

// parseMount takes root, mount point and file system of a line of mountinfo.
func parseMount(line string) (root, point, fs string) {
	fields := strings.Fields(line)
	for i, f := range fields {
		if f == "-" && i >= 6 && i+1 < len(fields) {
			return fields[3], unescape(fields[4]), fields[i+1]
		}
	}
	return "", "", ""
}

// unescape undoes the octal escapes that the kernel writes for white space.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// CgroupID returns the id by which the kernel's programs know the cgroup.
func CgroupID(path string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, fmt.Errorf("cgroup %s: %w: %w", path, ErrCgroup, err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return 0, fmt.Errorf("cgroup %s: %w", path, ErrCgroup)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("cgroup %s: %w: %w", path, ErrCgroup, err)
	}
	return st.Ino, nil
}
