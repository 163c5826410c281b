package collector

import (
	"errors"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/egresswarden/egresswarden/eventlog"
)

// problems are what keeps a target from getting its entries, by who met them.
// A text is logged when it appears and not again while anybody meets it.
type problems struct {
	log *slog.Logger

	mu  sync.Mutex
	now map[string]string
}

// digits change with each attempt: ports, timestamps.
var digits = regexp.MustCompile(`\d+`)

func newProblems(log *slog.Logger) *problems { return &problems{log: log, now: map[string]string{}} }

func (p *problems) set(key, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	news := true
	for _, known := range p.now {
		news = news && digits.ReplaceAllString(known, "#") != digits.ReplaceAllString(text, "#")
	}
	p.now[key] = text
	if news {
		p.log.Error("events are held, nothing is lost: " + text) //nolint:sloglint // the text is one of a few
	}
}

// clear says that the problem is over.
func (p *problems) clear(key string) {
	if p.forget(key) {
		p.log.Info("events are delivered again")
	}
}

// reading takes what keeps a stream from being read.
func (p *problems) reading(stream string) func(error) {
	key := "read " + stream
	return func(err error) {
		switch {
		case err == nil:
			p.clear(key)
		case errors.Is(err, eventlog.ErrNotFound):
			p.set(key, stream+" cannot be read: there is no such stream; an enforcer makes it when it starts or connects: check nats, is this the enforcers' event log?")
		default:
			p.set(key, stream+" cannot be read: "+err.Error())
		}
	}
}

// forget takes back what somebody said who does not try any more. It tells
// whether that was the last problem.
func (p *problems) forget(key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, was := p.now[key]
	delete(p.now, key)
	return was && len(p.now) == 0
}

// check gives all there are, nil for none.
func (p *problems) check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.now) == 0 {
		return nil
	}
	texts := slices.Compact(slices.Sorted(maps.Values(p.now)))
	return errors.New(strings.Join(texts, "; "))
}
