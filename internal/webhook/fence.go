package webhook

import (
	"context"
	"time"
)

// A dispatcher may be paused at any instant, for longer than its leases last, and another one goes on from its places. What it was about
// to send would then come after newer events. So a request is written only while its lease is surely held:
//
//	leasedAt        + timeout/2              + 3/2 timeout         + 2 timeout
//	   │ deliveries begin │ renewed before one begins │ nothing is written │ the lease is over: another dispatcher goes on
//
// leasedAt is taken before the statement that prolongs the lease, so that it is no later than Postgres's. What is written at all is
// answered, or given up, half a timeout before another dispatcher begins. The look at the clock is immediately before the system call
// that writes (outbound.Before); a process that is paused exactly between the two may still be late.

// leaseOf is how long leases last with a timeout of deliveries.
func leaseOf(timeout time.Duration) time.Duration { return 2 * timeout }

// hold prolongs a lease that is too old for a delivery.
func (p *places) hold(ctx context.Context, w *work) error {
	if age := time.Since(w.leasedAt); age >= 0 && age < p.lease/4 {
		return nil
	}
	return p.renew(ctx, w)
}

// fence is when the last byte of a delivery may be written.
func (p *places) fence(w *work) time.Time { return w.leasedAt.Add(p.lease / 4 * 3) }
