package enforcer

import (
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/policy"
)

func TestLabelsAreUnderstoodOrBlock(t *testing.T) {
	long := strings.Repeat("x", maxWorkload+1)
	for _, tc := range []struct {
		name    string
		labels  map[string]string
		want    wish
		problem string
	}{
		{"no label takes the default", nil, wish{Mode: policy.ModeAllow}, ""},
		{"other labels mean nothing", map[string]string{"egressive": "x", "my.egress": "y"}, wish{Mode: policy.ModeAllow}, ""},
		{"learn", map[string]string{"egress": "learn"}, wish{Mode: policy.ModeLearn}, ""},
		{"block with a policy", map[string]string{"egress": "block", "egress.policy": "web"}, wish{Mode: policy.ModeBlock, Policy: "web"}, ""},
		{"dns denied", map[string]string{"egress": "block", "egress.dns": "deny"}, wish{Mode: policy.ModeBlock, NoDNS: true}, ""},
		{"an unknown mode blocks", map[string]string{"egress": "lern"}, wish{Mode: policy.ModeBlock}, "want allow, learn or block"},
		{"an empty mode blocks", map[string]string{"egress": ""}, wish{Mode: policy.ModeBlock}, "want allow, learn or block"},
		{"a misspelt case blocks", map[string]string{"Egress": "allow"}, wish{Mode: policy.ModeBlock}, "no such label"},
		{"an unknown key blocks", map[string]string{"egress": "allow", "egress.polciy": "x"}, wish{Mode: policy.ModeBlock}, "no such label"},
		{"dns misspelt denies and blocks", map[string]string{"egress": "learn", "egress.dns": "no"}, wish{Mode: policy.ModeBlock, NoDNS: true}, "want allow or deny"},
		{"raw sockets kept", map[string]string{"egress": "block", "egress.raw": "allow"}, wish{Mode: policy.ModeBlock, Raw: true}, ""},
		{"raw sockets refused", map[string]string{"egress": "learn", "egress.raw": "deny"}, wish{Mode: policy.ModeLearn}, ""},
		{"raw misspelt refuses and blocks", map[string]string{"egress": "learn", "egress.raw": "yes"}, wish{Mode: policy.ModeBlock}, "want allow or deny"},
		{"an empty policy blocks", map[string]string{"egress": "learn", "egress.policy": ""}, wish{Mode: policy.ModeBlock}, "empty"},
		{"everyone is no workload", map[string]string{"egress": "learn", "egress.policy": "*"}, wish{Mode: policy.ModeBlock}, "every workload"},
		{"a name too long blocks", map[string]string{"egress": "allow", "egress.policy": long}, wish{Mode: policy.ModeBlock}, "at most"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parseLabels(tc.labels, nil, policy.ModeAllow)
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			if tc.problem == "" && err != nil {
				t.Errorf("unexpected: %v", err)
			}
			if tc.problem != "" && (err == nil || !strings.Contains(err.Error(), tc.problem)) {
				t.Errorf("error %v does not tell %q", err, tc.problem)
			}
		})
	}
}

func TestLabelsThatAreNearlyOursBlock(t *testing.T) {
	for _, key := range []string{
		"egress_mode", "egress-policy", "egress:block", "egress/mode", "egress.", "EGRESS_POLICY", "Egress-Mode", "egresswarden", "egresswarden.mode", "EgressWarden/policy",
	} {
		got, err := parseLabels(map[string]string{"egress": "allow", key: "learn"}, nil, policy.ModeAllow)
		if got.Mode != policy.ModeBlock || err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: mode %s, error %v, want block and an error that names it", key, got.Mode, err)
		}
	}
	for _, key := range []string{"egresses", "egressx.mode", "egres", "x-egress", "my.egress.mode", "egréss", ""} {
		if got, err := parseLabels(map[string]string{key: "block"}, nil, policy.ModeLearn); got.Mode != policy.ModeLearn || err != nil {
			t.Errorf("%s: mode %s, error %v, want the default", key, got.Mode, err)
		}
	}
}

func TestWorkloadIsStableAcrossReCreation(t *testing.T) {
	compose := map[string]string{"com.docker.compose.project": "shop", "com.docker.compose.service": "api"}
	for _, tc := range []struct {
		want   string
		wish   wish
		labels map[string]string
	}{
		{"web", wish{Policy: "web"}, compose},
		{"shop/api", wish{}, compose},
		{"", wish{}, nil},
	} {
		if got := labelledWorkload(tc.wish, tc.labels, nil); got != tc.want {
			t.Errorf("workload %q, want %q", got, tc.want)
		}
	}
}

func TestAnImagesLabelsOnlyTighten(t *testing.T) {
	for name, c := range map[string]struct {
		labels, image map[string]string
		def           policy.Mode
		want          wish
		labelled      bool
	}{
		"allow of an image, where the default blocks": {
			map[string]string{"egress": "allow"}, map[string]string{"egress": "allow"}, policy.ModeBlock, wish{Mode: policy.ModeBlock}, false},
		"allow of the container": {
			map[string]string{"egress": "allow"}, nil, policy.ModeBlock, wish{Mode: policy.ModeAllow}, true},
		"allow of the container over an image's block": {
			map[string]string{"egress": "allow"}, map[string]string{"egress": "block"}, policy.ModeBlock, wish{Mode: policy.ModeAllow}, true},
		"block of an image": {
			map[string]string{"egress": "block"}, map[string]string{"egress": "block"}, policy.ModeAllow, wish{Mode: policy.ModeBlock}, true},
		"learn of an image, where the default blocks": {
			map[string]string{"egress": "learn"}, map[string]string{"egress": "learn"}, policy.ModeBlock, wish{Mode: policy.ModeBlock}, false},
		"an image takes no policy": {
			map[string]string{"egress": "block", "egress.policy": "web"}, map[string]string{"egress.policy": "web"}, policy.ModeAllow, wish{Mode: policy.ModeBlock}, true},
		"an image keeps no raw sockets": {
			map[string]string{"egress": "block", "egress.raw": "allow"}, map[string]string{"egress.raw": "allow"}, policy.ModeAllow, wish{Mode: policy.ModeBlock}, true},
		"an image refuses the resolver": {
			map[string]string{"egress.dns": "deny"}, map[string]string{"egress.dns": "deny"}, policy.ModeLearn, wish{Mode: policy.ModeLearn, NoDNS: true}, false},
	} {
		got, err := parseLabels(c.labels, c.image, c.def)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, c.want)
		}
		if got := modeLabelled(c.labels, c.image, c.def); got != c.labelled {
			t.Errorf("%s: labelled %v, want %v", name, got, c.labelled)
		}
	}
	bad := map[string]string{"egress": "lern"}
	if got, err := parseLabels(bad, bad, policy.ModeAllow); got.Mode != policy.ModeBlock || err == nil {
		t.Errorf("an image's label that is not understood: %+v, %v", got, err)
	}
}

func TestAnImageNamesNoWorkload(t *testing.T) {
	names := map[string]string{"com.docker.compose.project": "shop", "com.docker.compose.service": "api"}
	built := map[string]string{composeNumber: "1"}
	for key, value := range names {
		built[key] = value
	}
	for name, c := range map[string]struct {
		labels, image map[string]string
		want          string
	}{
		"compose's own":                      {built, nil, "shop/api"},
		"an image that compose built":        {built, names, "shop/api"},
		"an image with compose's names":      {names, names, ""},
		"an image with a container's number": {built, built, ""},
	} {
		if got := labelledWorkload(wish{}, c.labels, c.image); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
