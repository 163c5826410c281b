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

// parseLabels reads the egress labels of a container. Those that are its
// image's can make it stricter, and nothing else: whoever built the image has no
// say in what may leave this host.
func parseLabels(labels, image map[string]string, def policy.Mode) (wish, error) {
	own, inherited := apart(labels, image)
	w, err := readLabels(own, def)
	v, err2 := readLabels(inherited, policy.ModeAllow)
	w.Mode, w.NoDNS = max(w.Mode, v.Mode), w.NoDNS || v.NoDNS
	return w, errors.Join(err, err2)
}

// apart splits a container's labels into its own and those of its image. Docker
// tells no difference: one that says what the image says is the image's.
func apart(labels, image map[string]string) (own, inherited map[string]string) {
	own, inherited = map[string]string{}, map[string]string{}
	for key, value := range labels {
		if v, ok := image[key]; ok && v == value {
			inherited[key] = value
		} else {
			own[key] = value
		}
	}
	return own, inherited
}

// readLabels reads egress labels. What is not understood (an unknown value, key
// or spelling) makes the mode block, and is the error.
func readLabels(labels map[string]string, def policy.Mode) (wish, error) {
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
// An image's own labels name no workload, whose policy it would take. Compose
// writes its names into the images that it builds, too, but numbers containers
// alone.
func labelledWorkload(w wish, labels, image map[string]string) string {
	if w.Policy != "" {
		return w.Policy
	}
	own, _ := apart(labels, image)
	if own[composeNumber] != "" {
		own = labels
	}
	project, service := own["com.docker.compose.project"], own["com.docker.compose.service"]
	if project != "" && service != "" && checkWorkload(project+"/"+service) == nil {
		return project + "/" + service
	}
	return ""
}

const composeNumber = "com.docker.compose.container-number"

// imageMatters tells whether a container's labels mean something else if they
// are its image's.
func imageMatters(labels map[string]string, def policy.Mode) bool {
	own, _ := parseLabels(labels, nil, def)
	inherited, _ := parseLabels(labels, labels, def)
	return own != inherited || labelledWorkload(own, labels, nil) != labelledWorkload(inherited, labels, labels)
}

// modeLabelled tells whether a label gave the mode, and not the default.
func modeLabelled(labels, image map[string]string, def policy.Mode) bool {
	own, inherited := apart(labels, image)
	if _, ok := own[labelMode]; ok {
		return true
	}
	m, err := policy.ParseMode(inherited[labelMode])
	return err == nil && m > def
}
