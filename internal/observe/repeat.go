package observe

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// repeatEvery is how often a warning that keeps occurring is logged, and quietAfter how long one must not have occurred to be
	// logged as new.
	repeatEvery = time.Minute
	quietAfter  = 10 * time.Second
	// repeatedMessages bounds the remembered messages. Messages are constants of the code, so it is not reached.
	repeatedMessages = 256
)

// repeats keeps logs from growing with traffic while a dependency is unavailable: a warning is logged when it first occurs, and then
// once a minute with the number of times that it was left out. Errors are always logged: each is something to act on.
//
// It is shared by all handlers of a logger, and safe for concurrent use.
type repeats struct {
	now  func() time.Time
	mu   sync.Mutex
	seen map[string]*repeated // by message, guarded by mu
}

// repeated is one warning that occurred.
type repeated struct {
	logged, last time.Time
	leftOut      int
}

func newRepeats(now func() time.Time) *repeats {
	return &repeats{now: now, seen: map[string]*repeated{}}
}

// admit says whether a warning is to be logged, and how many like it were left out before.
func (r *repeats) admit(message string) (leftOut int, admitted bool) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.seen[message]
	if w == nil {
		if len(r.seen) < repeatedMessages {
			r.seen[message] = &repeated{logged: now, last: now}
		}
		return 0, true
	}
	isNew := now.Sub(w.last) > quietAfter
	w.last = now
	if !isNew && now.Sub(w.logged) < repeatEvery {
		w.leftOut++
		return 0, false
	}
	leftOut = w.leftOut
	w.logged, w.leftOut = now, 0
	return leftOut, true
}

// throttle adds the number of warnings that were left out to a record, or says that this one is left out.
func (r *repeats) throttle(record *slog.Record) (admitted bool) {
	if record.Level != slog.LevelWarn {
		return true
	}
	leftOut, admitted := r.admit(record.Message)
	if leftOut > 0 {
		record.AddAttrs(slog.Int("left_out", leftOut))
	}
	return admitted
}
