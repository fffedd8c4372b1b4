package webhook

import (
	"context"
	"time"
)

// A dispatcher may be paused at any instant for longer than its leases last, and another one then continues from its places. A request that
// the first one was about to send would arrive after newer events. So a request is written only while its lease is certainly held. The
// four periods of a lease, by its age:
//
//	0 to timeout/2            a delivery may begin
//	up to 3/2 timeout         a delivery in progress may be written; before another one begins, the lease is renewed (hold)
//	up to 2 timeout           nothing is written (fence)
//	from 2 timeout            the lease has ended: another dispatcher may continue
//
// The age counts from leasedAt, which is read before the statement that extends the lease, so it is never later than Postgres's time.
// A delivery that begins in the first period ends within its timeout, so half a timeout before another dispatcher may begin. The clock is
// read immediately before the system call that writes (outbound.Before). A process that is paused exactly between the two may still be late.

// leaseOf returns the duration of a lease for a timeout of deliveries.
func leaseOf(timeout time.Duration) time.Duration { return 2 * timeout }

// hold renews the lease if it is too old for a delivery to begin.
func (p *places) hold(ctx context.Context, w *work) error {
	if age := time.Since(w.leasedAt); age >= 0 && age < p.lease/4 {
		return nil
	}
	return p.renew(ctx, w)
}

// fence returns the time after which nothing of a delivery may be written.
func (p *places) fence(w *work) time.Time { return w.leasedAt.Add(p.lease / 4 * 3) }
