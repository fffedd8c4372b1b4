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
	// pollEvery is how often is looked for what is to be delivered, pollIdle how often while hints arrive and nothing waits: then a poll
	// finds what hints do not name, users and friends, and what they lost. Both are below the two seconds that a first attempt may take.
	pollEvery = 300 * time.Millisecond
	pollIdle  = time.Second
	// hintPause is the shortest pause between two looks at hints, hintPauseMost the longest. In between it is restFactor times what the last look
	// took, so that looks take a fifth of the time at most, unless one takes longer than hintPauseMost / restFactor.
	hintPause     = 20 * time.Millisecond
	hintPauseMost = 150 * time.Millisecond
	restFactor    = 4
	sweepEvery    = time.Hour
	// observeEvery is how often the gauges of endpoints are read.
	observeEvery = 5 * time.Second
)

// Run delivers until ctx ends. What is on its way then is finished; its lease and place are as after any delivery.
//
//	hints of Redis ──► looks at the conversations that they name, soon ──┐
//	                                                                     ├──► free slots are filled
//	every 300 ms, or every second ──► looks at all that changed ─────────┘
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

// pollAll looks at all that changed, and does what is to be done from time to time.
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

// poll starts what there is to do for each endpoint. One that fails does not keep the others.
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

// takesHints reports whether hints are followed for an endpoint. One that is failing is tried by polls.
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

// followHints looks at the conversations that hints name, for each endpoint.
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
			d.fillSlots(ctx, works, claimed)
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

// startWork starts what an endpoint has free slots for.
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
	replays, err := d.replays(ctx, e)
	failed = errors.Join(failed, err)
	d.fillSlots(ctx, works, slices.Concat(claimed, subjects, replays))
	return failed
}

// fillSlots starts what was claimed.
func (d *Dispatcher) fillSlots(ctx context.Context, works *errgroup.Group, claimed []work) {
	for _, w := range claimed {
		works.Go(func() error {
			d.fillSlot(ctx, &w)
			return nil
		})
	}
}
