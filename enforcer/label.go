package enforcer

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/egresswarden/egresswarden/policy"
)

// The labels of a container.
const (
	labelMode   = "egress"
	labelPolicy = "egress.policy"
	labelDNS    = "egress.dns"
	labelRaw    = "egress.raw"
)

// maxWorkload bounds a workload's name, in bytes: it is a NATS subject token
// and a Loki label.
const maxWorkload = 200

// wish is what a container's labels ask for.
type wish struct {
	Mode   policy.Mode
	Policy string
	NoDNS  bool
	Raw    bool
}

// parseLabels reads the egress labels. What is not understood (an unknown
// value, key or spelling) makes the mode block, and is the error.
func parseLabels(labels map[string]string, def policy.Mode) (wish, error) {
	w := wish{Mode: def}
	var errs []error
	for _, key := range egressKeys(labels) {
		value := labels[key]
		var err error
		switch key {
		case labelMode:
			w.Mode, err = policy.ParseMode(value)
		case labelPolicy:
			w.Policy, err = value, checkWorkload(value)
		case labelDNS:
			w.NoDNS = value != "allow"
			err = checkSwitch(value)
		case labelRaw:
			w.Raw = value == "allow"
			err = checkSwitch(value)
		default:
			err = errors.New("no such label: want egress, egress.policy, egress.dns or egress.raw")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("label %s: %w", key, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		w.Mode = policy.ModeBlock
		if checkWorkload(w.Policy) != nil {
			w.Policy = ""
		}
		return w, err
	}
	return w, nil
}

func checkSwitch(value string) error {
	if value != "allow" && value != "deny" {
		return fmt.Errorf("%q: want allow or deny", value)
	}
	return nil
}

// egressKeys are the keys that are meant for us, misspelt or not: egress alone
// or with a separator behind it, whichever, and the name of the whole.
func egressKeys(labels map[string]string) []string {
	var keys []string
	for key := range labels {
		rest, ours := strings.CutPrefix(strings.ToLower(key), labelMode)
		if ours && (rest == "" || strings.ContainsRune("-_:./", rune(rest[0])) || strings.HasPrefix(rest, "warden")) {
			keys = append(keys, key)
		}
	}
	sort.Strings(keys)
	return keys
}

func checkWorkload(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case name == policy.Everyone:
		return fmt.Errorf("%q is the policy of every workload, not a workload", name)
	case len(name) > maxWorkload:
		return fmt.Errorf("the name has %d bytes, at most %d are taken", len(name), maxWorkload)
	case !utf8.ValidString(name):
		return errors.New("the name is not UTF-8")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("the name holds control characters")
	}
	return nil
}

// labelledWorkload is stable across re-creation: the label, else compose's
// project and service. It is empty where the container's first name has to do.
func labelledWorkload(w wish, labels map[string]string) string {
	if w.Policy != "" {
		return w.Policy
	}
	project, service := labels["com.docker.compose.project"], labels["com.docker.compose.service"]
	if project != "" && service != "" && checkWorkload(project+"/"+service) == nil {
		return project + "/" + service
	}
	return ""
}
