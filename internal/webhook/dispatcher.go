package webhook

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/parley-chat/parley/internal/backoff"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/fault"
	"github.com/parley-chat/parley/internal/outbound"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/timestamp"
)

// Config are the settings of deliveries.
type Config struct {
	Timeout time.Duration
	// Retries are the pauses before each further attempt of an event.
	Retries []time.Duration
	// DisableAfter is how long an endpoint may be down.
	DisableAfter time.Duration
	OutboxKeep   time.Duration
}

const (
	// eventsAtOnce is how many events of a conversation are read at once. After eventsPerLease events, or after turnFor, other
	// conversations have their turn.
	eventsAtOnce   = 100
	eventsPerLease = 500
	turnFor        = 5 * time.Second
	// slotFor is how long a slot claims further conversations without reading the endpoint again.
	slotFor = 2 * time.Second
	// noteEvery is how often one conversation's successes are written to an endpoint that is not failing.
	noteEvery = 250 * time.Millisecond
)

// Feed reads the journal.
type Feed interface {
	// After reads the events of a conversation that follow a revision, limit of them at most.
	After(ctx context.Context, conversationID string, revision int64, limit int) (event.Missed, error)
}

// Dispatcher delivers to all endpoints. Any number of dispatchers may run.
type Dispatcher struct {
	config  Config
	places  *places
	feed    Feed
	sender  *sender
	hints   *Hints
	metrics *Metrics
	log     *slog.Logger
	// observed are the names of the endpoints that have gauges. This field and the following ones are used by Run's goroutine only.
	observed map[string]bool
	// swept and observedAt are the times at which the tables were last swept and the gauges last set.
	swept, observedAt time.Time
	// hinted is set if some endpoint is active and wants events of conversations, waits if some event waits for an endpoint.
	hinted, waits bool
}

// NewDispatcher makes a dispatcher, which needs its Run. hints may be nil: then changes are found by polls only.
func NewDispatcher(c Config, db *sql.DB, feed Feed, sealer *Sealer, guard *outbound.Guard, hints *Hints, m *Metrics, log *slog.Logger) *Dispatcher {
	return &Dispatcher{
		config: c, places: &places{db: db, lease: leaseOf(c.Timeout)}, feed: feed, sender: newSender(sealer, guard, c.Timeout), hints: hints, metrics: m, log: log,
	}
}

// runSlot delivers the events of a claimed place, and then claims further places of the endpoint until slotFor has passed, so that the slot
// is not idle until the next poll. When stop ends it finishes the delivery in progress.
func (d *Dispatcher) runSlot(stop context.Context, w *work) {
	ctx := context.WithoutCancel(stop)
	for begun := time.Now(); ; {
		went, err := d.deliver(stop, w)
		if err != nil && !errors.Is(err, postgres.ErrLeaseLost) {
			d.warn(ctx, "a conversation's events cannot be delivered", fmt.Errorf("%s: %w", w.endpoint.name, err))
		}
		if err != nil || !went || stop.Err() != nil || time.Since(begun) > slotFor {
			return
		}
		claim := d.places.claim
		switch {
		case w.subject != "":
			claim = d.places.claimSubjects
		case w.replay:
			claim = d.places.claimReplays
		}
		next, err := claim(ctx, &w.endpoint, 1)
		if err != nil || len(next) == 0 {
			return // the next poll reports it
		}
		w = &next[0]
	}
}

// deliver delivers the next events of a conversation or subject. went is false if an event has to wait.
func (d *Dispatcher) deliver(stop context.Context, w *work) (went bool, err error) {
	ctx := context.WithoutCancel(stop)
	if w.subject != "" {
		return true, d.deliverSubject(ctx, w)
	}
	defer func() { _ = d.places.release(ctx, w) }()
	ref, err := d.places.conversation(ctx, w.conversationID)
	if err != nil {
		return false, err
	}
	w.turnEnds = time.Now().Add(turnFor)
	for delivered := 0; delivered < eventsPerLease && time.Now().Before(w.turnEnds) && stop.Err() == nil; delivered += eventsAtOnce {
		missed, err := d.feed.After(ctx, w.conversationID, w.revision, eventsAtOnce)
		if err == nil && len(missed.Events) == 0 && w.replay { // the journal has fewer events than placesSQL counted
			return true, d.places.advance(ctx, w, w.until)
		}
		if err != nil {
			return false, err
		}
		if went, err := d.deliverEvents(stop, w, ref, missed.Events); err != nil || !went {
			return false, err
		}
		if len(missed.Events) < eventsAtOnce {
			return true, nil
		}
	}
	return true, nil
}

// deliverEvents delivers events in order and moves the place after each. For a run of events that the endpoint does not want, the place is
// moved once. went is false if an event has to wait.
func (d *Dispatcher) deliverEvents(stop context.Context, w *work, ref *conversationRef, events []*event.Event) (went bool, err error) {
	ctx := context.WithoutCancel(stop)
	reached := w.revision
	for _, e := range events {
		if w.replay && e.Revision > w.until || time.Now().After(w.turnEnds) || stop.Err() != nil {
			break
		}
		one, ok, err := deliveryOf(e, ref)
		if err != nil {
			return false, err
		}
		if ok && w.endpoint.wants(one.typ) {
			if err := d.places.hold(ctx, w); err != nil {
				return false, err
			}
			if went, err := d.attempt(ctx, w, one, time.UnixMicro(e.CommittedAt)); err != nil || !went {
				return false, err
			}
			if err := d.places.advance(ctx, w, e.Revision); err != nil {
				return false, err
			}
		}
		reached, w.reached = e.Revision, time.UnixMicro(e.CommittedAt)
	}
	if reached > w.revision {
		return true, d.places.advance(ctx, w, reached)
	}
	return true, nil
}

// attempt tries one delivery. It returns true if the endpoint responded 2xx or the event is dead, and false if the event was postponed.
func (d *Dispatcher) attempt(ctx context.Context, w *work, one delivery, committed time.Time) (bool, error) {
	fault.Point("dispatcher.send")
	o := d.sender.send(outbound.Before(ctx, d.places.fence(w)), w.endpoint.target, one, w.replay)
	if o.late {
		return false, postgres.ErrLeaseLost
	}
	d.metrics.attempt(w, o, committed)
	if o.ok() {
		fault.Point("dispatcher.accepted")
		if !w.endpoint.failing && time.Since(w.noted) < noteEvery {
			return true, nil
		}
		w.noted = time.Now()
		return true, d.places.succeeded(ctx, &w.endpoint)
	}
	if err := noteAttempt(ctx, d.places.db, w.endpoint.id, one, o); err != nil {
		return false, err
	}
	success, down, err := d.places.lastSuccess(ctx, w)
	if err != nil {
		return false, err
	}
	// An attempt counts if the endpoint works otherwise: if it has accepted other events since this one first failed, or, for the first
	// attempt, if it was not failing. If the endpoint is down the event is tried again without counting, so that an outage makes no
	// event dead.
	if !w.firstFailed.IsZero() && success.After(w.firstFailed) && !down || w.firstFailed.IsZero() && !w.endpoint.failing {
		w.attempts++
	}
	if w.attempts > len(d.config.Retries) {
		if err := d.places.renew(ctx, w); err != nil { // the lease is lost: another dispatcher may have delivered the event
			return false, err
		}
		return true, bury(ctx, d.places.db, w.endpoint.id, one, o.reason)
	}
	disabled, err := d.places.failed(ctx, &w.endpoint, o.gone(), o.after, d.config.DisableAfter)
	if err != nil {
		return false, err
	}
	if disabled {
		d.log.WarnContext(ctx, "a webhook was disabled", "webhook", w.endpoint.name, "status", o.status)
	}
	return false, d.places.postpone(ctx, w, w.attempts, d.pause(w.attempts, o.after))
}

// pause returns how long an event waits after a number of counted attempts: at least after, the receiver's Retry-After. It varies by a fifth.
func (d *Dispatcher) pause(attempts int, after time.Duration) time.Duration {
	in := time.Second
	if attempts > 0 && attempts <= len(d.config.Retries) {
		in = d.config.Retries[attempts-1]
	}
	return max(after, backoff.Spread(in))
}

func splitTypes(s string) []string { return strings.Split(s, ",") }

// typeOf maps the types of frames to those of webhooks' events. Webhooks have no events of the other types.
var typeOf = map[string]string{
	event.TypeMessageNew: "message.created", event.TypeMessageUpdated: "message.updated", event.TypeMessageDeleted: "message.deleted",
	event.TypeMessageReacted: "message.reacted", event.TypeConversationCreated: "conversation.created",
	event.TypeConversationUpdated: "conversation.updated", event.TypeConversationDeleted: "conversation.deleted",
	event.TypeMemberAdded: "conversation.members_added", event.TypeMemberRemoved: "conversation.members_removed",
	event.TypeMemberUpdated: "conversation.members_updated",
}

// deliveryOf encodes an event of the journal as it is sent. ok is false for a type that webhooks don't have.
func deliveryOf(e *event.Event, ref *conversationRef) (d delivery, ok bool, err error) {
	d.typ = typeOf[e.Type]
	if d.typ == "" {
		return d, false, nil
	}
	d.id = fmt.Sprintf("evt_%s_%d", e.ConversationID, e.Revision)
	for shown := shownMembers; ; shown /= 2 {
		data, err := withConversation(dataOf(e, shown), ref)
		if err != nil {
			return d, false, fmt.Errorf("encode an event: %w", err)
		}
		d.body, err = json.Marshal(body{
			Type: d.typ, Timestamp: timestamp.Time{Time: time.UnixMicro(e.CommittedAt).UTC()}, Data: data,
			Actor: bodyActor{UserID: orNull(e.Actor.UserID), KeyID: orNull(e.Actor.KeyID)},
		})
		if err != nil || len(d.body) <= maxBody || shown == 0 {
			return d, err == nil, err
		}
	}
}
