package realtime

import (
	"sync"
	"time"
)

const (
	// holdMost is how many publications wait for Redis to be back. The oldest of too many is dropped and counted.
	holdMost = 1 << 13
	// holdOn is how long they wait once it is: other pods make their subscriptions anew within about a second.
	holdOn = 2 * time.Second
)

// hold keeps what nobody repairs from Postgres, such as receipts, markers, and changes of privacy, friends and blocks, while Redis is
// unavailable, and until the pods listen again. What is published then is heard once; had it been published at once, it would have been
// heard by nobody. Events of conversations are not held: pods read them from Postgres.
//
//	flowing ──── a publish fails, or the subscription is lost ───► holding
//	   ▲                                                             │ both work again
//	   └────────────── 2 s later, everything is published ◄── settling
//
// A pod that is killed while it holds loses what it holds: clients learn most of it by their next sync.
type hold struct {
	mu      sync.Mutex // guards what follows
	failing bool       // the last publish failed
	deaf    bool       // this pod's subscription is lost, and so probably those of the others
	until   time.Time  // when what is held may go, once neither is true

	held []publication // of Run's goroutine alone
}

// failed takes the outcome of a publish.
func (h *hold) failed(now bool) { h.set(&h.failing, now) }

// lost takes in that the pod's subscription is lost, or made again.
func (h *hold) lost(now bool) { h.set(&h.deaf, now) }

func (h *hold) set(what *bool, now bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if *what && !now {
		h.until = time.Now().Add(holdOn)
	}
	*what = now
}

// flowing reports whether publications go to Redis at once.
func (h *hold) flowing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.failing && !h.deaf && !time.Now().Before(h.until)
}

// keep holds those publications that nobody repairs. It returns how many were dropped.
func (h *hold) keep(batch []publication) (dropped int) {
	for _, x := range batch {
		if x.keep {
			h.held = append(h.held, x)
		}
	}
	if over := len(h.held) - holdMost; over > 0 {
		h.held = append(h.held[:0], h.held[over:]...)
		return over
	}
	return 0
}
