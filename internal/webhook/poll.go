package webhook

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-chat/parley/internal/backoff"
)

const (
	// pollEvery is the interval of polls. While hints arrive and nothing waits it is pollIdle: then polls find only events without hints
	// (users and friends) and changes whose hints were lost. Both are below the two seconds within which a first attempt has to begin.
	pollEvery = 300 * time.Millisecond
	pollIdle  = time.Second
	// The pause between two rounds of hints is restFactor times the duration of the last round, but at least hintPause and at most
	// hintPauseMost. So rounds use a fifth of the time at most, unless one takes longer than hintPauseMost / restFactor.
	hintPause     = 20 * time.Millisecond
	hintPauseMost = 150 * time.Millisecond
	restFactor    = 4
	sweepEvery    = time.Hour
	// observeEvery is how often the gauges of endpoints are read.
	observeEvery = 5 * time.Second
)

// Run delivers until ctx ends. Deliveries in progress are then finished, their places are moved and their leases end.
//
//	hints from Redis ───────► followHints: the conversations that they name ──┐
//	                                                                          ├──► startSlots ──► runSlot: deliveries
//	every 300 ms, or 1 s ───► pollAll: all conversations that changed ────────┘
func (d *Dispatcher) Run(ctx context.Context) error {
	var works errgroup.Group
	defer func() { _ = works.Wait() }()
	var polled time.Time
	for {
		due := polled.Add(d.pollPause())
		hinted := d.awaitWork(ctx, due)
		if ctx.Err() != nil {
			return nil
		}
		begun := time.Now()
		if hinted {
			err := d.followHints(ctx, &works)
			d.warn(ctx, "webhooks cannot be followed", err)
		} else {
			polled = begun
			d.pollAll(ctx, &works)
		}
		pause := min(max(hintPause, restFactor*time.Since(begun)), hintPauseMost)
		backoff.Wait(ctx, min(pause, time.Until(polled.Add(d.pollPause()))))
	}
}

// pollPause is the time from one poll to the next.
func (d *Dispatcher) pollPause() time.Duration {
	if d.hints != nil && d.hints.hearing() && !d.waits {
		return pollIdle
	}
	return pollEvery
}

// awaitWork waits until a poll is due or hints have arrived. It returns true for hints.
func (d *Dispatcher) awaitWork(ctx context.Context, due time.Time) (hinted bool) {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	var wake chan struct{}
	if d.hints != nil {
		wake = d.hints.wake
	}
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
		return true
	}
	return false
}

// pollAll finds everything that waits. From time to time it also sets gauges and removes old rows.
func (d *Dispatcher) pollAll(ctx context.Context, works *errgroup.Group) {
	if err := d.poll(ctx, works); err != nil {
		d.warn(ctx, "webhooks cannot be followed", err)
	} else {
		d.metrics.polled.SetToCurrentTime()
	}
	if time.Since(d.observedAt) > observeEvery {
		d.observedAt = time.Now()
		d.warn(ctx, "the state of webhooks cannot be read", d.observe(ctx))
	}
	if time.Since(d.swept) > sweepEvery {
		d.swept = time.Now()
		d.warn(ctx, "old attempts cannot be removed", d.places.sweep(ctx, d.config.OutboxKeep))
	}
}

// poll starts deliveries to each endpoint. An error for one endpoint does not stop the others.
func (d *Dispatcher) poll(ctx context.Context, works *errgroup.Group) error {
	endpoints, err := d.places.endpoints(ctx)
	if err != nil {
		return err
	}
	d.hinted, d.waits = false, false
	for i := range endpoints {
		e := &endpoints[i]
		d.hinted = d.hinted || e.takesHints()
		d.waits = d.waits || e.behind || e.waiting || e.replays
		err = errors.Join(err, d.startWork(ctx, works, e))
	}
	return err
}

// takesHints reports whether hints are followed for the endpoint. An endpoint that is failing is tried by polls only.
func (e *endpointRow) takesHints() bool {
	if e.failing {
		return false
	}
	for t := range e.types {
		if !strings.HasPrefix(t, "user.") && !strings.HasPrefix(t, "friend.") && !strings.HasPrefix(t, "push.") {
			return true
		}
	}
	return false
}

// followHints starts deliveries of the conversations that hints name, to each endpoint.
func (d *Dispatcher) followHints(ctx context.Context, works *errgroup.Group) error {
	conversationIDs, more := d.hints.takeHints()
	switch {
	case !d.hinted: // as the last poll found
		return nil
	case more:
		return d.poll(ctx, works)
	case len(conversationIDs) == 0:
		return nil
	}
	endpoints, err := d.places.endpoints(ctx)
	if err != nil {
		return err
	}
	for i := range endpoints {
		e := &endpoints[i]
		if !e.takesHints() {
			continue
		}
		marked, failed := d.places.discoverHinted(ctx, e.id, conversationIDs)
		if marked > 0 || e.behind {
			claimed, claimFailed := d.places.claim(ctx, e, slotsPerEndpoint)
			failed = errors.Join(failed, claimFailed)
			d.startSlots(ctx, works, claimed)
		}
		err = errors.Join(err, failed)
	}
	return err
}

func (d *Dispatcher) warn(ctx context.Context, msg string, err error) {
	if err != nil && ctx.Err() == nil {
		d.log.WarnContext(ctx, msg, "error", err)
	}
}

// startWork discovers and claims what is due for an endpoint, as far as it has free slots, and starts the deliveries.
func (d *Dispatcher) startWork(ctx context.Context, works *errgroup.Group, e *endpointRow) error {
	var failed error
	for found := discoverBatch; found == discoverBatch && ctx.Err() == nil; {
		var err error
		found, err = d.places.discover(ctx, e.id)
		failed = errors.Join(failed, err)
		e.behind = e.behind || found > 0
	}
	var claimed, subjects []work
	var err error
	if e.behind {
		claimed, err = d.places.claim(ctx, e, slotsPerEndpoint)
		failed = errors.Join(failed, err)
	}
	if e.waiting {
		subjects, err = d.places.claimSubjects(ctx, e, slotsPerEndpoint)
		failed = errors.Join(failed, err)
	}
	replays, err := d.claimDueReplays(ctx, e)
	failed = errors.Join(failed, err)
	d.startSlots(ctx, works, slices.Concat(claimed, subjects, replays))
	return failed
}

// startSlots starts a runSlot for each claimed place or subject.
func (d *Dispatcher) startSlots(ctx context.Context, works *errgroup.Group, claimed []work) {
	for _, w := range claimed {
		works.Go(func() error {
			d.runSlot(ctx, &w)
			return nil
		})
	}
}
