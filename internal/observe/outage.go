package observe

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Outage keeps a fault that hits many to two lines of the log: one when it begins, with the first error, and one when it is over,
// with how long it took and how often something failed. The errors in between are logged at debug level. Its methods may be called
// from any goroutine.
type Outage struct {
	log         *slog.Logger
	begun, over string

	mu       sync.Mutex // guards the following fields
	since    time.Time  // zero while all is well
	failures int
	quiet    bool // nothing failed since the last Settle
}

// NewOutage makes one. begun and over are the messages of the two lines.
func NewOutage(log *slog.Logger, begun, over string) *Outage {
	return &Outage{log: log, begun: begun, over: over}
}

// Note records an outcome: an error begins or continues the outage, nil ends it.
func (o *Outage) Note(err error) {
	if err != nil {
		o.Fail(context.Background(), err)
	} else {
		o.End()
	}
}

// Fail begins the outage, or counts one failure more. args are attributes for the log; ctx names the request.
func (o *Outage) Fail(ctx context.Context, err error, args ...any) {
	args = append(args, "error", err)
	o.mu.Lock()
	first := o.since.IsZero()
	if first {
		o.since = time.Now()
	}
	o.failures++
	o.quiet = false
	o.mu.Unlock()
	if first {
		o.log.WarnContext(ctx, o.begun, args...)
	} else {
		o.log.DebugContext(ctx, o.begun, args...)
	}
}

// End ends the outage. It is cheap if there is none.
func (o *Outage) End() {
	o.mu.Lock()
	since, failures := o.since, o.failures
	o.since, o.failures = time.Time{}, 0
	o.mu.Unlock()
	if !since.IsZero() {
		o.log.Info(o.over, "after", time.Since(since).Round(time.Millisecond).String(), "failures", failures)
	}
}

// Settle ends an outage in which nothing failed since the last call.
func (o *Outage) Settle() {
	o.mu.Lock()
	over := o.quiet
	o.quiet = true
	o.mu.Unlock()
	if over {
		o.End()
	}
}
