package eventlog

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// lasting is how long a trouble lasts before it is told: a server that is
// started anew is none.
const lasting = 2 * time.Second

var (
	errSilent      = errors.New("the server does not answer: has it room and its other members, and may this user ask for the consumer's messages?")
	errUnconfirmed = errors.New("the server does not answer to acknowledgements: may this user acknowledge?")
)

// waitingError is not being able to go on before what an owner held who is gone
// has come back.
type waitingError struct {
	messages int
	back     time.Duration
}

func (e waitingError) Error() string {
	return fmt.Sprintf("waits for %d messages that a reader held who is gone: the server gives them back within %s", e.messages, e.back)
}

// trouble is what keeps a Consumer from reading.
type trouble struct {
	tell func(error) // nil: nobody asks

	mu    sync.Mutex
	since time.Time // of the first failure; zero: none
	told  bool
	// acks says that acknowledgements fail: that messages come proves nothing.
	acks bool
}

// failed notes a failure, and tells it when there have been some for a while.
func (t *trouble) failed(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() {
		t.since = time.Now()
	}
	t.acks = t.acks || errors.Is(err, errUnconfirmed)
	if t.tell != nil && time.Since(t.since) >= lasting {
		t.told = true
		t.tell(err)
	}
}

// over notes that the server has answered a request, or a round's
// acknowledgement.
func (t *trouble) over(acknowledged bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() || t.acks && !acknowledged {
		return
	}
	t.since, t.acks = time.Time{}, false
	if t.told {
		t.told = false
		t.tell(nil)
	}
}
