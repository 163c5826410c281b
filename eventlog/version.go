package eventlog

import (
	"fmt"
	"strconv"
	"strings"
)

// MinServerVersion is the oldest NATS server that is spoken to.
const MinServerVersion = "2.12"

// checkVersion refuses a server's version below MinServerVersion, and one that
// cannot be read, with ErrVersion.
func checkVersion(version string) error {
	major, minor, err := parseVersion(version)
	if err != nil {
		return err
	}
	needMajor, needMinor, err := parseVersion(MinServerVersion)
	if err != nil {
		return err
	}
	if major > needMajor || major == needMajor && minor >= needMinor {
		return nil
	}
	return fmt.Errorf("server has version %s, need %s or later: %w", version, MinServerVersion, ErrVersion)
}

func parseVersion(version string) (major, minor int, err error) {
	fields := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(fields) >= 2 {
		major, err = strconv.Atoi(fields[0])
		if err == nil {
			minor, err = strconv.Atoi(fields[1])
		}
	}
	if err != nil || len(fields) < 2 || major < 0 || minor < 0 {
		return 0, 0, fmt.Errorf("server says version %q, need %s or later: %w", version, MinServerVersion, ErrVersion)
	}
	return major, minor, nil
}
