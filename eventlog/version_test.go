package eventlog

import (
	"errors"
	"testing"
)

func TestOldServersAreRefused(t *testing.T) {
	for version, ok := range map[string]bool{
		"2.12.0": true, "2.12.0-beta.1": true, "2.15.2": true, "3.0.0": true, "v2.14.1": true, "2.100": true, "10.1.0": true,
		"2.11.9": false, "2.9.10": false, "1.4.1": false, "": false, "2": false, "x.y.z": false, "2.x": false, "-3.1": false,
	} {
		if err := checkVersion(version); (err == nil) != ok || err != nil && !errors.Is(err, ErrVersion) {
			t.Errorf("version %q: %v", version, err)
		}
	}
}
