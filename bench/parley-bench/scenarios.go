package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// scenario is a kind of load.
type scenario struct {
	name, about string
	// users is how many there are, each with one socket at most.
	users func(*settings) int
	// prepare makes what it needs, and opens the sockets that are open all the time.
	prepare func(context.Context, *bench) error
	// load ends when its time is over, or with ctx.
	load func(context.Context, *bench) error
}

func allUsers(s *settings) int { return s.Users }

// scenarios are all there are, by name.
func scenarios() []scenario {
	return []scenario{
		{"sockets", "opens --users sockets at --connect-rate and holds them", allUsers, nothing, holdSockets},
		{"fanout", "--groups of --members who all listen: --in-flight messages at a time, or --rate a second",
			func(s *settings) int { return s.Groups * s.Members }, prepareFanout, fanout},
		{"sends", "--users in groups of three, each waiting for the ack of its last message, or at --rate", allUsers, prepareSends, sends},
		{"sender", "one user sends to a group of --members, --in-flight messages at a time on one socket, or at --rate",
			func(s *settings) int { return s.Members }, prepareFanout, oneSender},
		{"reads", "--users in groups of --members list, page through --messages, and read them, one round after the other or at --rate", allUsers, prepareReads, reads},
		{"presence", "one half of --users comes and goes, each with --members friends in the other half who hear of it", allUsers, preparePresence, presence},
		{"mixed", "a day: --users come and go, send at --rate at noon, read and page back, in groups of 3 to many", allUsers, prepareMixed, mixed},
	}
}

func find(name string) *scenario {
	all := scenarios()
	if i := slices.IndexFunc(all, func(s scenario) bool { return s.name == name }); i >= 0 {
		return &all[i]
	}
	return nil
}

func nothing(context.Context, *bench) error { return nil }

// holdSockets opens them and then keeps them for the duration.
func holdSockets(ctx context.Context, b *bench) error {
	if err := b.connect(ctx, b.people); err != nil {
		b.say("some sockets could not be opened: %v", err)
	}
	ctx, cancel := b.lasting(ctx)
	defer cancel()
	<-ctx.Done()
	return nil
}

func prepareFanout(ctx context.Context, b *bench) error {
	if _, err := b.made.groups(ctx, slices.Collect(slices.Chunk(b.people, b.Members)), 0); err != nil {
		return err
	}
	return b.connect(ctx, b.people)
}

// fanout lets each group send independently.
func fanout(ctx context.Context, b *bench) error {
	ctx, cancel := b.lasting(ctx)
	defer cancel()
	var wg sync.WaitGroup
	start := time.Now()
	for g, c := range b.convs {
		wg.Go(func() {
			for i := 0; ; i++ {
				intended, err := b.turn(ctx, start, g+i*len(b.convs))
				if b.Rate == 0 {
					err = c.await(ctx, int64((i-b.InFlight+1)*len(c.members)))
					intended = time.Now()
				}
				if err != nil {
					return
				}
				c.members[i%len(c.members)].send(c, intended, nil)
			}
		})
	}
	wg.Wait()
	return nil
}

// turn waits until the i-th of all is to be sent, where there is a rate, and answers when that was to be.
func (b *bench) turn(ctx context.Context, start time.Time, i int) (time.Time, error) {
	if b.Rate == 0 {
		return time.Now(), ctx.Err()
	}
	at := start.Add(time.Duration(float64(i) / b.Rate * float64(time.Second)))
	return at, pause(ctx, time.Until(at))
}

// await waits until the members together got so many messages.
func (c *conversation) await(ctx context.Context, deliveries int64) error {
	for c.delivered.Load() < deliveries {
		select {
		case <-c.moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}

func prepareSends(ctx context.Context, b *bench) error {
	var groups [][]*person
	for i := range b.people {
		groups = append(groups, []*person{b.people[i], b.people[(i+1)%len(b.people)], b.people[(i+2)%len(b.people)]})
	}
	if _, err := b.made.groups(ctx, groups, 0); err != nil {
		return err
	}
	return b.connect(ctx, b.people)
}

// sends has each user send to a group of their own, which two others are in.
func sends(ctx context.Context, b *bench) error {
	ctx, cancel := b.lasting(ctx)
	defer cancel()
	start := time.Now()
	return b.each(ctx, b.people, func(k int, p *person) error {
		acked := make(chan struct{}, 1)
		for i := 0; ; i++ {
			intended, err := b.turn(ctx, start, k+i*len(b.people))
			if err != nil {
				return err
			}
			p.send(b.convs[k], intended, func() { acked <- struct{}{} })
			select {
			case <-acked:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}

// oneSender has the first member send as a bot or an import does: the next message does not wait for the ack of the last one.
func oneSender(ctx context.Context, b *bench) error {
	ctx, cancel := b.lasting(ctx)
	defer cancel()
	start, c, flying := time.Now(), b.convs[0], make(chan struct{}, b.InFlight)
	b.ordered = true
	for i := 0; ; i++ {
		intended, err := b.turn(ctx, start, i)
		if err != nil {
			return nil //nolint:nilerr // the time is over
		}
		if b.Rate > 0 {
			c.members[0].send(c, intended, nil)
			continue
		}
		select {
		case flying <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c.members[0].send(c, time.Now(), func() { <-flying })
	}
}

// each runs something for each person, all at once, and joins what went wrong; that the time was over is no fault.
func (b *bench) each(ctx context.Context, people []*person, f func(int, *person) error) error {
	errs := make([]error, len(people))
	var wg sync.WaitGroup
	for i, p := range people {
		wg.Go(func() {
			if err := f(i, p); !errors.Is(err, ctx.Err()) {
				errs[i] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
