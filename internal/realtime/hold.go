package realtime

import (
	"sync"
	"time"
)

const (
	// holdMost is how many publications may wait until Redis is available. Beyond that the oldest are dropped and counted.
	holdMost = 1 << 13
	// holdOn is how long they wait after that: other pods subscribe again within about a second.
	holdOn = 2 * time.Second
)

// hold keeps publications that are not repaired from Postgres (receipts, markers, changes of privacy, friends and blocks) while Redis is
// unavailable, and until the pods have subscribed again: before that they would reach no pod. Events of conversations are not held, because
// pods read them from Postgres.
//
//	flowing ──── a publish fails, or the subscription is lost ───► holding
//	   ▲                                                             │ both work again
//	   └────────────── 2 s later, everything is published ◄── settling
//
// On a cluster the subscription to sharded channels counts too, while publications go to them.
//
// If the pod is killed meanwhile, the held publications are lost; clients get most of the information with their next sync.
type hold struct {
	mu      sync.Mutex // guards the next four fields
	failing bool       // the last publish failed
	deaf    bool       // this pod's subscription is lost, and so probably those of the others
	partial bool       // this pod lacks sharded channels, and so probably do others
	until   time.Time  // when held publications may be published, once none of them is true

	held []publication // used by Run's goroutine only
}

// failed records whether the last publish failed.
func (h *hold) failed(now bool) { h.set(&h.failing, now) }

// lost records whether the pod's subscription is lost.
func (h *hold) lost(now bool) { h.set(&h.deaf, now) }

// incomplete records that the pod lacks sharded channels, or has all of them.
func (h *hold) incomplete(now bool) { h.set(&h.partial, now) }

func (h *hold) set(what *bool, now bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if *what && !now {
		h.until = time.Now().Add(holdOn)
	}
	*what = now
}

// flowing reports whether publications go to Redis at once. sharded says whether they go to sharded channels.
func (h *hold) flowing(sharded bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.failing && !h.deaf && !(sharded && h.partial) && !time.Now().Before(h.until)
}

// keep holds the publications of a batch that are not repaired. It returns how many were dropped.
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
