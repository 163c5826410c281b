package enforcer

import (
	"context"
	"sync"
)

const (
	// inquirers is how many questions to Docker are on their way at once.
	inquirers = 4
	// maxInquiries bounds the questions that wait; a comparison asks again
	// what did not fit.
	maxInquiries = 16384
)

// inquiries are the containers that Docker is to be asked about, each once.
type inquiries struct {
	queue chan string

	mu      sync.Mutex
	waiting map[string]bool
}

func newInquiries() *inquiries {
	return &inquiries{queue: make(chan string, maxInquiries), waiting: map[string]bool{}}
}

// add never blocks.
func (q *inquiries) add(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting[id] {
		return
	}
	select {
	case q.queue <- id:
		q.waiting[id] = true
	default:
	}
}

// run asks until ctx ends. A container may be added again while it is asked
// about: what happened since is not in that answer.
func (q *inquiries) run(ctx context.Context, ask func(id string)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case id := <-q.queue:
			q.mu.Lock()
			delete(q.waiting, id)
			q.mu.Unlock()
			ask(id)
		}
	}
}
