package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/timestamp"
)

// claimSubjects leases at most most subjects of the outbox that are due, as claim does places. It considers only the oldestEvents oldest
// events that are due: after an import of users there are very many.
func (p *places) claimSubjects(ctx context.Context, e *endpointRow, most int) (out []work, err error) {
	at := time.Now()
	scan := func(r postgres.Row, w *work) error {
		var first *time.Time
		if err := r.Scan(&w.lease, &w.subject, &w.attempts, &first); err != nil {
			return err
		}
		if w.endpoint, w.leasedAt = *e, at; first != nil {
			w.firstFailed = *first
		}
		return nil
	}
	err = p.inTurn(ctx, e.id, func(q postgres.Querier) (err error) {
		out, err = postgres.Collect(ctx, q, scan, claimSubjectsSQL, e.id, slotsPerEndpoint, p.lease.Seconds(), most, oldestEvents)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("take leases of subjects: %w", err)
	}
	return out, nil
}

// oldestEvents is how many events one claim considers.
const oldestEvents = 200

const claimSubjectsSQL = freeSQL + `
	oldest AS MATERIALIZED (
		SELECT o.subject, o.id FROM outbox o LEFT JOIN outbox_places p ON p.webhook_id = o.webhook_id AND p.subject = o.subject
		WHERE o.webhook_id = $1 AND (p.next_at IS NULL OR p.next_at <= clock_timestamp()) AND (p.leased_until IS NULL OR p.leased_until <= clock_timestamp())
		ORDER BY o.id LIMIT (SELECT CASE WHEN n > 0 THEN $5::bigint ELSE 0 END FROM free)
	),
	due AS MATERIALIZED (
		SELECT subject FROM oldest GROUP BY subject ORDER BY min(id) LIMIT (SELECT least(n, $4) FROM free)
	)
	INSERT INTO outbox_places AS p (webhook_id, subject, lease, leased_until)
	SELECT $1, d.subject, gen_random_uuid(), clock_timestamp() + make_interval(secs => $3) FROM due d
	ON CONFLICT (webhook_id, subject) DO UPDATE SET lease = excluded.lease, leased_until = excluded.leased_until
		WHERE (p.next_at IS NULL OR p.next_at <= clock_timestamp()) AND (p.leased_until IS NULL OR p.leased_until <= clock_timestamp())
	RETURNING p.lease, p.subject, p.attempts, p.first_failed_at`

// outboxRow is an event of the outbox.
type outboxRow struct {
	id      int64
	eventID string
	typ     string
	userIDs []string
	at      time.Time
	// replay is set for an event that a replay delivers once more.
	replay bool
	// data is set for a push, whose event carries more than its users.
	data  []byte
	actor bodyActor
}

func (p *places) waiting(ctx context.Context, w *work) ([]outboxRow, error) {
	return postgres.Collect(ctx, p.db, func(r postgres.Row, o *outboxRow) error {
		var users string
		err := r.Scan(&o.id, &o.eventID, &o.typ, &users, &o.at, &o.replay, &o.data, &o.actor.UserID, &o.actor.KeyID)
		o.userIDs = postgres.ParseIDArray(users)
		return err
	}, `SELECT id, event_id, type, user_ids::text, created_at, replay_id IS NOT NULL, data, actor_id, key_id FROM outbox WHERE webhook_id = $1 AND subject = $2 ORDER BY id LIMIT $3`,
		w.endpoint.id, w.subject, eventsAtOnce)
}

func (p *places) profiles(ctx context.Context, ids []string) ([]chat.Profile, error) {
	return postgres.Collect(ctx, p.db, chat.ScanProfile, `SELECT u.id, u.username, u.display_name, u.avatar_url FROM unnest($1::text[]::uuid[]) WITH ORDINALITY AS i (id, n)
		JOIN users u ON u.id = i.id ORDER BY i.n`, ids)
}

// deliverSubject delivers the events of a subject in order, at most eventsAtOnce.
func (d *Dispatcher) deliverSubject(ctx context.Context, w *work) error {
	defer func() {
		_, _ = d.places.db.ExecContext(ctx, `UPDATE outbox_places SET lease = NULL, leased_until = NULL
			WHERE webhook_id = $1 AND subject = $2 AND lease = $3`, w.endpoint.id, w.subject, w.lease)
	}()
	rows, err := d.places.waiting(ctx, w)
	if err != nil {
		return err
	}
	for _, o := range rows {
		data, err := d.outboxData(ctx, &o)
		if err != nil {
			return err
		}
		b, err := json.Marshal(body{Type: o.typ, Timestamp: timestamp.Time{Time: o.at.UTC()}, Data: data, Actor: o.actor})
		if err != nil {
			return fmt.Errorf("encode an event: %w", err)
		}
		w.replay = o.replay
		if err := d.places.renew(ctx, w); err != nil {
			return err
		}
		if !w.endpoint.wants(o.typ) { // its types were changed after the event was written
			if err := d.places.moveToSent(ctx, w, o.id); err != nil {
				return err
			}
			continue
		}
		went, err := d.attempt(ctx, w, delivery{id: "evt_" + o.eventID, typ: o.typ, body: b}, o.at)
		if err != nil || !went {
			return err
		}
		if err := d.places.moveToSent(ctx, w, o.id); err != nil {
			return err
		}
		w.attempts, w.firstFailed = 0, time.Time{}
	}
	return nil
}

// outboxData returns the data of an event of the outbox.
func (d *Dispatcher) outboxData(ctx context.Context, o *outboxRow) (any, error) {
	if o.data != nil {
		return json.RawMessage(o.data), nil
	}
	users, err := d.places.profiles(ctx, o.userIDs)
	if err != nil {
		return nil, err
	}
	if len(o.userIDs) == 1 && len(users) == 1 {
		return map[string]any{"user": users[0]}, nil
	}
	return map[string]any{"users": users}, nil
}

// moveToSent moves an event that was delivered or given up from the outbox to outbox_sent, where replays find it. An event that came from a
// replay is there already, and pushes are not replayed.
func (p *places) moveToSent(ctx context.Context, w *work, outboxID int64) error {
	return postgres.Held(p.db.ExecContext(ctx, `WITH p AS (
			UPDATE outbox_places SET attempts = 0, first_failed_at = NULL, next_at = NULL
			WHERE webhook_id = $1 AND subject = $2 AND lease = $3 RETURNING webhook_id
		),
		gone AS (
			DELETE FROM outbox o USING p WHERE o.webhook_id = p.webhook_id AND o.id = $4 RETURNING o.*
		),
		kept AS (
			INSERT INTO outbox_sent (id, webhook_id, event_id, subject, type, user_ids, created_at, actor_id, key_id)
			SELECT id, webhook_id, event_id, subject, type, user_ids, created_at, actor_id, key_id FROM gone WHERE replay_id IS NULL AND data IS NULL
			ON CONFLICT DO NOTHING
		)
		SELECT FROM gone`, w.endpoint.id, w.subject, w.lease, outboxID))
}
