package collector

import (
	"log/slog"
	"strings"
	"testing"
)

func TestGivingUpIsNoDelivery(t *testing.T) {
	var log strings.Builder
	p := newProblems(slog.New(slog.NewTextHandler(&log, nil)))
	p.set("a", "away")
	if p.forget("a"); p.check() != nil || strings.Contains(log.String(), "delivered again") {
		t.Errorf("check says %v, the log %s", p.check(), &log)
	}
	p.set("a", "away")
	if p.clear("a"); p.check() != nil || strings.Count(log.String(), "delivered again") != 1 {
		t.Errorf("check says %v, the log %s", p.check(), &log)
	}
}
