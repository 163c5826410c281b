//go:build vmsystem

package system

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/probe"
)

// Addresses of the sink, which answers at both. The second counts what arrives.
const (
	good  = "203.0.113.10:443"
	other = "203.0.113.20:443"
)

// sh runs a line of shell, which must succeed, and returns what it printed.
func sh(t *testing.T, format string, args ...any) string {
	t.Helper()
	out, err := try(format, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(format string, args ...any) (string, error) {
	line := fmt.Sprintf(format, args...)
	var out, errs bytes.Buffer
	c := exec.Command("/bin/sh", "-ec", line)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s%s", line, err, &out, &errs)
	}
	return strings.TrimSpace(out.String()), nil
}

// journal shows, where the test failed, what a unit said.
func journal(t *testing.T, unit string) {
	if t.Failed() {
		out, err := try("journalctl -n 60 --no-pager -u %s", unit)
		t.Log(out, err)
	}
}

// sends are the techniques that must be refused: a call that connects or sends.
const sends = "tcp,udp_connected,udp_sendto"

// dial makes an attempt by each technique inside a container.
func dial(name, how, to string) ([]probe.Result, error) {
	out, err := try("docker exec %s /probe dial -how %s -to %s", name, how, to)
	if err != nil {
		return nil, err
	}
	all, err := probe.Parse(strings.NewReader(out))
	if err == nil && len(all) != 1+strings.Count(how, ",") {
		err = fmt.Errorf("probe said %q", out)
	}
	return all, err
}

// reach is an error unless the container gets through.
func reach(name, to string) error {
	all, err := dial(name, "tcp", to)
	if err == nil && !all[0].OK {
		err = fmt.Errorf("%s does not get through: %s", name, all[0])
	}
	return err
}

// meetRefusal is an error unless the gate refuses the container in each way.
func meetRefusal(name, to string) error {
	all, err := dial(name, sends, to)
	for _, r := range all {
		if !r.Denied() {
			err = errors.Join(err, fmt.Errorf("%s is not refused: %s", name, r))
		}
	}
	return err
}

func reaches(t *testing.T, name, to string) {
	t.Helper()
	if err := reach(name, to); err != nil {
		t.Error(err)
	}
}

func isRefused(t *testing.T, name, to string) {
	t.Helper()
	if err := meetRefusal(name, to); err != nil {
		t.Error(err)
	}
}

// arrived is how many packets came to the second address since the boot.
func arrived(t *testing.T) int {
	t.Helper()
	rules := sh(t, "iptables -w -vS INPUT")
	_, after, _ := strings.Cut(rules, "-d 203.0.113.20/32 -c ")
	packets, _, _ := strings.Cut(after, " ")
	n, err := strconv.Atoi(packets)
	if err != nil {
		t.Fatalf("no count of packets: %v in\n%s", err, rules)
	}
	return n
}

// running waits until the container runs: Docker is ready before those are that
// it starts by itself.
func running(t *testing.T, name string) {
	t.Helper()
	testutil.Eventually(t, name+" runs", func() error {
		got, err := try("docker inspect -f '{{.State.Running}}' %s", name)
		if err == nil && got != "true" {
			err = fmt.Errorf("%s runs: %s", name, got)
		}
		return err
	})
}

// tally stops a container that loops and returns what it counted.
func tally(t *testing.T, name string) []probe.Tally {
	t.Helper()
	running(t, name)
	since := sh(t, "docker inspect -f '{{.State.StartedAt}}' %s", name)
	sh(t, "docker stop -t 60 %s", name)
	var all []probe.Tally
	testutil.Eventually(t, "the count of "+name, func() (err error) {
		out, err := try("docker logs --since %s %s", since, name)
		if err != nil {
			return err
		}
		if all, err = probe.ParseTallies(strings.NewReader(out)); err == nil && len(all) == 0 {
			err = fmt.Errorf("it wrote nothing")
		}
		return err
	})
	return all
}

// flow is what the tests read of egw flows -o json.
type flow struct {
	Verdict  string `json:"verdict"`
	Workload string `json:"workload"`
	Dst      string `json:"dst_ip"`
	Port     int    `json:"dst_port"`
}

// flows waits for a recorded flow that fits.
func flows(t *testing.T, want flow) {
	t.Helper()
	testutil.Eventually(t, fmt.Sprintf("the event of %+v", want), func() error { return recorded(want) })
}

// isTold has the workload's container of the same name try until a flow that
// fits is recorded.
func isTold(t *testing.T, want flow) {
	t.Helper()
	testutil.Eventually(t, fmt.Sprintf("the event of %+v", want), func() error {
		_, err := dial(want.Workload, "tcp", fmt.Sprintf("%s:%d", want.Dst, want.Port))
		return errors.Join(err, recorded(want))
	})
}

func recorded(want flow) error {
	out, err := try("egw flows --last 0 --workload %s --verdict %s -o json", want.Workload, want.Verdict)
	if err != nil {
		return err
	}
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var got flow
		if err := d.Decode(&got); err != nil {
			return err
		}
		if got == want {
			return nil
		}
	}
	return fmt.Errorf("not among %d bytes of flows", len(out))
}
