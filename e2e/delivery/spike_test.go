package delivery

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"github.com/egresswarden/egresswarden/internal/testutil"
	"github.com/egresswarden/egresswarden/internal/testutil/loki"
	"github.com/egresswarden/egresswarden/schemas"
)

// The rules are the shipped ones in a faster time: five minutes are as many
// seconds as a window, and they are evaluated every three seconds.
const (
	scale    = 25
	window   = 5 * time.Minute / scale
	evaluate = 3 * time.Second
)

var (
	durations = regexp.MustCompile(`(\[|offset )(\d+[smhd])\b`)
	intervals = regexp.MustCompile(`(?m)^(\s+interval: ).*$`)
)

// fastRules are the shipped rules in that time.
func fastRules(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/loki/egresswarden.yaml")
	if err != nil {
		t.Fatal(err)
	}
	scaled := durations.ReplaceAllStringFunc(string(text), func(s string) string {
		m := durations.FindStringSubmatch(s)
		d, err := model.ParseDuration(m[2])
		if err != nil {
			t.Fatal(err)
		}
		return m[1] + model.Duration(time.Duration(d)/scale).String()
	})
	return intervals.ReplaceAllString(scaled, "${1}"+evaluate.String())
}

// spikes lets a real container burst, beside one whose denials are as many as
// ever: the first raises an alert that ends with the silence, the second none.
func (c *crew) spikes(t *testing.T, alerts *loki.Alertmanager) {
	const perSecond = 20
	c.history(t, "spike-steady", perSecond)
	steady := c.start(t, "spike", flood{"steady", "block", "-to 192.168.0.1/32 -pause 50ms"})
	began := time.Now()
	burst := c.start(t, "spike", flood{"burst", "block", "-to 192.168.0.0/24 -count 50 -rounds 20 -pause 50ms"})
	raised := c.alert(t, alerts, burst.workload, func(a loki.Alert) bool { return !a.Resolved() })
	t.Logf("the alert came %.1f s after the first denial, %.1f evaluation intervals: %s",
		raised.Received.Sub(began).Seconds(), raised.Received.Sub(began).Seconds()/evaluate.Seconds(), raised.Annotations["summary"])
	over := c.alert(t, alerts, burst.workload, loki.Alert.Resolved)
	t.Logf("it was over %.1f s later, the window is %s", over.Received.Sub(raised.Received).Seconds(), window)
	if a, ok := alerts.Last("EgwDenySpike", map[string]string{"workload": steady.workload}); ok {
		t.Errorf("steady noise raised %+v", a)
	}
	if n := steady.stop(t).Denied; time.Duration(n)*time.Second < 100*window/10 {
		t.Errorf("the steady noise was no more than %d denials", n)
	}
}

// alert waits for the spike of a workload in a state.
func (c *crew) alert(t *testing.T, alerts *loki.Alertmanager, workload string, is func(loki.Alert) bool) (found loki.Alert) {
	t.Helper()
	testutil.Eventually(t, "the alert of "+workload, func() error {
		a, ok := alerts.Last("EgwDenySpike", map[string]string{"workload": workload})
		if !ok || !is(a) {
			return fmt.Errorf("last is %+v, of %d alerts", a, len(alerts.All()))
		}
		found = a
		return nil
	})
	return found
}

// history puts into Loki what a workload has been denied all the time before.
func (c *crew) history(t *testing.T, workload string, perSecond uint64) {
	t.Helper()
	var entries []loki.Entry
	for at := time.Now().Add(-2*time.Hour/scale - window); at.Before(time.Now()); at = at.Add(time.Second) {
		f := &schemas.Flow{
			Id: schemas.FlowID(host, "history", uint64(len(entries))), TimeNs: at.UnixNano(), Host: host, Workload: workload,
			Verdict: schemas.Verdict_VERDICT_DENY, Count: perSecond, Proto: 17,
		}
		entries = append(entries, loki.Entry{
			Time: at, Line: string(schemas.AppendLine(nil, f)),
			Labels: map[string]string{"service_name": "egresswarden", "host": host, "workload": workload, "verdict": "deny"},
		})
	}
	if err := c.loki.Push(t.Context(), entries...); err != nil {
		t.Fatal(errors.Join(errors.New("push the history"), err))
	}
}
