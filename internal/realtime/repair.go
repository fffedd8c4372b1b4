package realtime

import (
	"context"
	"time"

	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/fault"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/realtime/wire"
)

const (
	// pollEvery is how often recent changes are read from Postgres.
	pollEvery = 2 * time.Second
	// lookBack is how far back they are read: longer than a statement can take from its clock reading to its commit.
	lookBack = postgres.StatementTimeout + 10*time.Second
	// patience is how long a topic waits for a late event before it is read from Postgres.
	patience = 50 * time.Millisecond
	// replayLimit is how many events are read at once.
	replayLimit = 200
	// repairWorkers is how many topics are repaired at once, repairQueue how many may wait; the next poll finds the others.
	repairWorkers = 4
	repairQueue   = 1 << 14
)

// Feed is the part of the journal that repairs need.
type Feed interface {
	// Recent reads the conversations that changed within a time before now, with their revisions, and the joins of users.
	Recent(ctx context.Context, within time.Duration) (map[string]int64, []event.UserJoin, error)
	// After reads the events of a conversation that follow a revision, limit of them at most.
	After(ctx context.Context, conversationID string, revision int64, limit int) (event.Missed, error)
}

// suspicion is a topic that may have missed an event. It is repaired unless it has delivered the revision by due.
type suspicion struct {
	t        *topic
	revision int64
	due      time.Time
}

// repairs finds events that were not received from Redis, reads them from Postgres and delivers them.
type repairs struct {
	hub   *Hub
	feed  Feed
	queue chan suspicion
	poll  chan struct{}

	lastPoll time.Time // start of the last successful poll; used by the poll's goroutine only

	polls, reads *observe.Outage
}

func newRepairs(h *Hub, f Feed) *repairs {
	return &repairs{hub: h, feed: f, queue: make(chan suspicion, repairQueue), poll: make(chan struct{}, 1), lastPoll: time.Now(),
		polls: observe.NewOutage(h.log, "postgres cannot be polled for missed events", "postgres is polled for missed events again"),
		reads: observe.NewOutage(h.log, "missed events could not be read", "missed events can be read again"),
	}
}

// repairSoon repairs the topic unless it has delivered the revision after patience. If the queue is full, the next poll finds the topic.
func (r *repairs) repairSoon(t *topic, revision int64) {
	select {
	case r.queue <- suspicion{t, revision, time.Now().Add(patience)}:
	default:
	}
}

// pollNow polls at once, because Redis is available again.
func (r *repairs) pollNow() {
	select {
	case r.poll <- struct{}{}:
	default:
	}
}

func (r *repairs) run(ctx context.Context) error {
	g := lifecycle.NewGroup(ctx)
	for range repairWorkers {
		g.Go("repair", func(ctx context.Context) error {
			r.repairLoop(ctx)
			return nil
		})
	}
	g.Go("poll", func(ctx context.Context) error {
		tick := time.NewTicker(pollEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-r.poll:
			case <-tick.C:
			}
			fault.Point("hub.poll")
			r.pollRecent(ctx)
		}
	})
	return g.Wait()
}

// pollRecent reads recent changes and joins from Postgres and repairs topics that have not delivered them. After failed polls it reaches
// back to the last successful one, because commits just before an outage may not have been delivered.
func (r *repairs) pollRecent(ctx context.Context) {
	start, generation := time.Now(), r.hub.generation.Load()
	ctx, cancel := context.WithTimeout(ctx, postgres.StatementTimeout)
	defer cancel()
	changed, joins, err := r.feed.Recent(ctx, lookBack+start.Sub(r.lastPoll))
	if err != nil {
		r.polls.Fail(ctx, err)
		r.hub.metrics.pollErrors.Inc()
		return
	}
	r.lastPoll = start
	r.polls.End()
	r.reads.Settle()
	for id, revision := range changed {
		if t := r.hub.serving(id); t != nil && !t.deliveredAfter(revision-1) {
			r.repairSoon(t, revision)
		}
	}
	for _, j := range joins {
		if len(r.hub.sessionsOf(j.UserID)) == 0 {
			continue
		}
		if t := r.hub.serveJoin(j.Join, generation); t != nil {
			r.attachMissed(ctx, t, j)
		}
	}
}

// attachMissed attaches sockets whose join event was lost, if the topic was created later for another user: it counts the join as
// delivered and will never deliver it. The events are read from the join on, until they reach the topic's last delivered revision.
func (r *repairs) attachMissed(ctx context.Context, t *topic, j event.UserJoin) {
	var events []*wire.Envelope
	for delivered := j.Revision - 1; len(t.missingSessions(j)) > 0; delivered = events[len(events)-1].Revision {
		missed, err := r.feed.After(ctx, t.id, delivered, replayLimit)
		if err != nil {
			r.reads.Fail(ctx, err, "conversation_id", t.id)
			return
		}
		events = append(events, sealAll(missed.Events)...)
		if len(missed.Events) == 0 || t.attachLate(j, events) {
			return
		}
	}
}

// repairLoop repairs queued topics until ctx ends.
func (r *repairs) repairLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-r.queue:
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(s.due)):
			}
			if s.t.deliveredAfter(s.revision - 1) {
				r.hub.joinsArrived(s.t, s.revision)
				continue
			}
			r.repair(ctx, s.t, s.revision)
		}
	}
}

// sealAll encodes events.
func sealAll(events []*event.Event) []*wire.Envelope {
	out := make([]*wire.Envelope, len(events))
	for i, e := range events {
		out[i] = wire.Seal(e)
	}
	return out
}

// repair reads the events that the topic has not delivered, and delivers them. After a failure the next poll tries again.
func (r *repairs) repair(ctx context.Context, t *topic, revision int64) {
	r.hub.metrics.repairs.Inc()
	ctx, cancel := context.WithTimeout(ctx, postgres.StatementTimeout)
	defer cancel()
	for {
		t.mu.Lock()
		delivered := t.delivered
		t.mu.Unlock()
		missed, err := r.feed.After(ctx, t.id, delivered, replayLimit)
		if err != nil {
			r.reads.Fail(ctx, err, "conversation_id", t.id)
			return
		}
		t.replay(sealAll(missed.Gone), sealAll(missed.Events))
		if len(missed.Events) < replayLimit {
			break
		}
	}
	r.hub.joinsArrived(t, revision)
}
