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
	// pollEvery is how often Postgres is asked for what changed lately.
	pollEvery = 2 * time.Second
	// lookBack is how far back: further than the longest statement takes from its clock reading to its commit.
	lookBack = postgres.StatementTimeout + 10*time.Second
	// patience is how long an event that is late is waited for before Postgres is asked.
	patience = 50 * time.Millisecond
	// replayLimit is how many events are read at once.
	replayLimit = 200
	// repairWorkers is how many topics are repaired at once, repairQueue how many wait; the next poll finds the others.
	repairWorkers = 4
	repairQueue   = 1 << 14
)

// Feed is what the repairs need of the journal.
type Feed interface {
	// Recent reads the conversations that changed within the last while, with their revisions, and who came into any.
	Recent(ctx context.Context, within time.Duration) (map[string]int64, []event.UserJoin, error)
	// After reads the events of a conversation that follow a revision, limit of them at most.
	After(ctx context.Context, conversationID string, revision int64, limit int) (event.Missed, error)
}

// suspicion is a topic that should have told a revision soon after due, or lacks something.
type suspicion struct {
	t        *topic
	revision int64
	due      time.Time
}

// repairs find and tell what Redis did not bring.
type repairs struct {
	hub   *Hub
	feed  Feed
	queue chan suspicion
	poll  chan struct{}

	lastPoll time.Time // of the last poll that succeeded; of poll's goroutine alone

	polls, reads *observe.Outage
}

func newRepairs(h *Hub, f Feed) *repairs {
	return &repairs{hub: h, feed: f, queue: make(chan suspicion, repairQueue), poll: make(chan struct{}, 1), lastPoll: time.Now(),
		polls: observe.NewOutage(h.log, "postgres cannot be polled for missed events", "postgres is polled for missed events again"),
		reads: observe.NewOutage(h.log, "missed events could not be read", "missed events can be read again"),
	}
}

// soon looks, a moment later, whether the topic has told the revision by itself, and repairs it if not.
func (r *repairs) soon(t *topic, revision int64) {
	select {
	case r.queue <- suspicion{t, revision, time.Now().Add(patience)}:
	default:
	}
}

// now polls at once: Redis is back.
func (r *repairs) now() {
	select {
	case r.poll <- struct{}{}:
	default:
	}
}

func (r *repairs) run(ctx context.Context) error {
	g := lifecycle.NewGroup(ctx)
	for range repairWorkers {
		g.Go("repair", func(ctx context.Context) error {
			r.work(ctx)
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
			r.look(ctx)
		}
	})
	return g.Wait()
}

// look asks Postgres what changed lately. While Postgres was away nothing was committed, but what was committed just
// before and never told is older then: the look reaches back to the last one that succeeded.
func (r *repairs) look(ctx context.Context) {
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
		if t := r.hub.serving(id); t != nil && !t.toldAfter(revision-1) {
			r.soon(t, revision)
		}
	}
	for _, j := range joins {
		if len(r.hub.sessionsOf(j.UserID)) == 0 {
			continue
		}
		if t := r.hub.joined(j.Join, generation); t != nil {
			r.catchUp(ctx, t, j)
		}
	}
}

// catchUp brings in the sockets of a user whose join was lost, where the topic was made after it, for another's socket, and so
// does not tell it any more.
func (r *repairs) catchUp(ctx context.Context, t *topic, j event.UserJoin) {
	var events []*wire.Envelope
	for told := j.Revision - 1; len(t.lacking(j)) > 0; told = events[len(events)-1].Revision {
		missed, err := r.feed.After(ctx, t.id, told, replayLimit)
		if err != nil {
			r.reads.Fail(ctx, err, "conversation_id", t.id)
			return
		}
		events = append(events, sealAll(missed.Events)...)
		if len(missed.Events) == 0 || t.bringIn(j, events) {
			return
		}
	}
}

func (r *repairs) work(ctx context.Context) {
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
			if s.t.toldAfter(s.revision - 1) {
				r.hub.expected(s.t, s.revision)
				continue
			}
			r.repair(ctx, s.t, s.revision)
		}
	}
}

func sealAll(events []*event.Event) []*wire.Envelope {
	out := make([]*wire.Envelope, len(events))
	for i, e := range events {
		out[i] = wire.Seal(e)
	}
	return out
}

// repair reads what the topic did not tell, up to a revision at least, and tells it. What fails is found again by the next poll.
func (r *repairs) repair(ctx context.Context, t *topic, revision int64) {
	r.hub.metrics.repairs.Inc()
	ctx, cancel := context.WithTimeout(ctx, postgres.StatementTimeout)
	defer cancel()
	for {
		t.mu.Lock()
		told := t.told
		t.mu.Unlock()
		missed, err := r.feed.After(ctx, t.id, told, replayLimit)
		if err != nil {
			r.reads.Fail(ctx, err, "conversation_id", t.id)
			return
		}
		t.replay(sealAll(missed.Gone), sealAll(missed.Events))
		if len(missed.Events) < replayLimit {
			break
		}
	}
	r.hub.expected(t, revision)
}
