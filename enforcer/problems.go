package enforcer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/egresswarden/egresswarden/schemas"
)

// problems are what keeps this host from being as it should, each under a key
// of its own. The zero value has none.
type problems struct {
	mu   sync.Mutex
	text map[string]string
}

// set notes how a thing stands, nil is well, and tells whether that is news.
func (p *problems) set(key string, err error) (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		_, news = p.text[key]
		delete(p.text, key)
		return news
	}
	if p.text == nil {
		p.text = map[string]string{}
	}
	text := err.Error()
	news = p.text[key] != text
	p.text[key] = text
	return news
}

// list is every problem, in the order of their keys.
func (p *problems) list() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, key := range slices.Sorted(maps.Keys(p.text)) {
		out = append(out, key+": "+p.text[key])
	}
	return out
}

// get is one problem, nil if there is none.
func (p *problems) get(key string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if text, ok := p.text[key]; ok {
		return errors.New(text)
	}
	return nil
}

// keys are those of every problem.
func (p *problems) keys() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.text))
}

// problemStore is the key of what the host's own event log cannot write.
const problemStore = "event log storage"

// gateEvery is how often the gate is looked after.
const gateEvery = 5 * time.Second

var errDetached = errors.New("the gate is not attached any more: nothing is enforced until the enforcer is restarted")

// watchGate tells when somebody took the gate off. It is not put back: that
// may have been the operator's wish.
func (e *Enforcer) watchGate(ctx context.Context) error {
	tick := time.NewTicker(gateEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if e.gate.Attached() {
			e.problems.set("gate", nil)
		} else if e.problems.set("gate", errDetached) {
			e.report.add(hostEvent{Kind: schemas.KindGateDetached, Severity: "error", Message: "somebody took the gate off", Err: errDetached.Error()})
		}
	}
}
