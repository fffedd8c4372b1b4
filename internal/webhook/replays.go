package webhook

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/postgres"
)

const externalPrefix = "ext:"

// conversationID finds the conversation that a period names, deleted ones too.
func conversationID(ctx context.Context, q postgres.Querier, name string) (out string, err error) {
	query := `SELECT id FROM conversations WHERE id = $1::uuid`
	external, isExternal := strings.CutPrefix(name, externalPrefix)
	if isExternal && invalid.Storable(external) {
		name, query = external, `SELECT id FROM conversations WHERE external_id = $1`
	} else if !id.Valid(name) {
		err = sql.ErrNoRows
	}
	if err == nil {
		err = q.QueryRowContext(ctx, query, name).Scan(&out)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return "", invalid.One("conversation", "is of no conversation")
	}
	return out, err
}

// revisionsSQL is an expression for the number of revisions of a conversation m whose created_at meets a condition. Each revision is either a
// change or a message.
func revisionsSQL(condition string) string {
	return `(SELECT count(*) FROM conversation_changes x WHERE x.conversation_id = m.id AND x.created_at ` + condition + `)
		+ (SELECT coalesce(max(y.seq), 0) FROM messages y WHERE y.conversation_id = m.id AND y.created_at ` + condition + `)`
}

// placesSQL makes the places of a replay r in conversations m.
var placesSQL = `INSERT INTO webhook_replay_places (replay_id, conversation_id, webhook_id, revision, until_revision)
		SELECT r.id, m.id, r.webhook_id, b.first, b.last FROM r CROSS JOIN m
		CROSS JOIN LATERAL (SELECT ` + revisionsSQL(`< r.since`) + ` AS first, ` + revisionsSQL(`<= r.until`) + ` AS last) b
		WHERE b.first < b.last ON CONFLICT DO NOTHING`

func (s *Store) insertReplay(ctx context.Context, endpointID, replayID string, p *Period) (r Replay, err error) {
	err = s.db.Tx(ctx, func(tx *gorm.DB) error {
		q, ctx := postgres.In(tx), postgres.Context(tx)
		var n int
		err := q.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM webhook_replays r WHERE r.webhook_id = w.id) FROM webhooks w WHERE w.id = $1 FOR NO KEY UPDATE`,
			endpointID).Scan(&n)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("lock a webhook: %w", err)
		}
		if n >= maxReplays {
			return ErrTooManyReplays
		}
		detail := map[string]any{"from": p.From, "until": p.Until}
		if p.Conversation != nil {
			found, err := conversationID(ctx, q, *p.Conversation)
			if err != nil {
				return err
			}
			r.Conversation = &found
			detail["conversationId"] = found
		}
		if r, err = startReplay(ctx, q, endpointID, replayID, p, r.Conversation); err != nil {
			return fmt.Errorf("start a replay: %w", err)
		}
		return audit.Record(ctx, tx, audit.Entry{Action: "webhook.replay", TargetType: "webhook", TargetID: endpointID, Detail: detail})
	})
	return r, err
}

// startReplay inserts a replay. A replay of one conversation gets its place at once; places for the others are made by expand.
func startReplay(ctx context.Context, q postgres.Querier, endpointID, replayID string, p *Period, conversation *string) (Replay, error) {
	r := Replay{ID: replayID, Conversation: conversation}
	err := q.QueryRowContext(ctx, `INSERT INTO webhook_replays (id, webhook_id, since, until, next_conversation, next_outbox)
		SELECT $1, $2, $3::timestamptz, least($4::timestamptz, clock_timestamp()), n.conversation, n.outbox
		FROM (SELECT '00000000-0000-0000-0000-000000000000'::uuid, 0 WHERE $5::boolean UNION ALL SELECT NULL, NULL WHERE NOT $5) n (conversation, outbox)
		RETURNING since, until, created_at`, replayID, endpointID, p.From, p.Until, conversation == nil).Scan(&r.From, &r.Until, &r.CreatedAt)
	if err != nil || conversation == nil {
		return r, err
	}
	_, err = q.ExecContext(ctx, `WITH r AS (SELECT * FROM webhook_replays WHERE id = $1), m AS (SELECT id FROM conversations WHERE id = $2) `+placesSQL,
		replayID, *conversation)
	return r, err
}

const (
	// replaySlots is how many of an endpoint's slots replays may use. The others are reserved for live events.
	replaySlots = 4
	// expandBatch is how many conversations, or events of users, one statement considers. No more places are made while expandAhead
	// places wait.
	expandBatch = 1000
	expandAhead = 1000
)

// expandSQL makes places for the next conversations of an endpoint's oldest replay, in the order of their ids. It skips conversations that
// last changed before the period. changed_at is in whole seconds.
var expandSQL = `WITH r AS MATERIALIZED (
		SELECT * FROM webhook_replays WHERE webhook_id = $1 AND next_conversation IS NOT NULL
			AND (SELECT count(*) FROM (SELECT FROM webhook_replay_places p WHERE p.webhook_id = $1 LIMIT $3) n) < $3
		ORDER BY created_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
	),
	seen AS MATERIALIZED (
		SELECT c.id, c.changed_at FROM r JOIN conversations c ON c.id > r.next_conversation ORDER BY c.id LIMIT $2
	),
	m AS MATERIALIZED (SELECT s.id FROM r, seen s WHERE s.changed_at >= date_trunc('second', r.since)),
	made AS (` + placesSQL + `)
	UPDATE webhook_replays t SET next_conversation = CASE WHEN l.n = $2 THEN l.id END
	FROM r, (SELECT count(*) AS n, (array_agg(id ORDER BY id DESC))[1] AS id FROM seen) l WHERE t.id = r.id
	RETURNING l.n = $2`

// expandOutboxSQL copies the next events of users of a replay into the outbox, with subjects that no other events have.
const expandOutboxSQL = `WITH r AS MATERIALIZED (
		SELECT * FROM webhook_replays WHERE webhook_id = $1 AND next_conversation IS NULL AND next_outbox IS NOT NULL
		ORDER BY created_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
	),
	seen AS MATERIALIZED (
		SELECT o.* FROM r JOIN outbox_sent o ON o.webhook_id = $1 AND o.id > r.next_outbox AND o.created_at BETWEEN r.since AND r.until
		ORDER BY o.id LIMIT $2
	),
	made AS (
		INSERT INTO outbox (webhook_id, event_id, subject, type, user_ids, created_at, actor_id, key_id, replay_id)
		SELECT s.webhook_id, s.event_id, 'replay:' || r.id || ':' || s.subject, s.type, s.user_ids, s.created_at, s.actor_id, s.key_id, r.id FROM r, seen s ORDER BY s.id
	)
	UPDATE webhook_replays t SET next_outbox = CASE WHEN l.n = $2 THEN l.id END
	FROM r, (SELECT count(*) AS n, max(id) AS id FROM seen) l WHERE t.id = r.id
	RETURNING l.n = $2`

// expand makes the next places of an endpoint's replays. more is set if there may be others, so that it has to be called again at once.
func (p *places) expand(ctx context.Context, endpointID string) (more bool, err error) {
	err = p.db.QueryRowContext(ctx, expandSQL, endpointID, expandBatch, expandAhead).Scan(&more)
	if errors.Is(err, sql.ErrNoRows) {
		err = p.db.QueryRowContext(ctx, expandOutboxSQL, endpointID, expandBatch).Scan(&more)
	}
	if errors.Is(err, sql.ErrNoRows) { // nothing is left, enough places wait, or another dispatcher is making them
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("make places of a replay: %w", err)
	}
	return more, nil
}

// claimReplaysSQL is claimSQL for places of replays, which may use replaySlots.
const claimReplaysSQL = freeSQL + `
	due AS MATERIALIZED (
		SELECT p.replay_id, p.conversation_id FROM webhook_replay_places p
		WHERE p.webhook_id = $1 AND (p.next_at IS NULL OR p.next_at <= clock_timestamp())
			AND (p.leased_until IS NULL OR p.leased_until <= clock_timestamp())
		ORDER BY p.next_at NULLS FIRST LIMIT (SELECT greatest(0, least(f.n, $4 - r.n, $5)) FROM free f, replaying r)
		FOR UPDATE SKIP LOCKED
	)
	UPDATE webhook_replay_places p SET lease = gen_random_uuid(), leased_until = clock_timestamp() + make_interval(secs => $3)
	FROM due d WHERE p.replay_id = d.replay_id AND p.conversation_id = d.conversation_id
	RETURNING p.lease, p.conversation_id, p.revision, p.until_revision, p.attempts, p.first_failed_at`

func (p *places) claimReplays(ctx context.Context, e *endpointRow, most int) (out []work, err error) {
	at := time.Now()
	scan := func(r postgres.Row, w *work) error {
		var first sql.NullTime
		err := r.Scan(&w.lease, &w.conversationID, &w.revision, &w.until, &w.attempts, &first)
		w.endpoint, w.replay, w.firstFailed, w.leasedAt = *e, true, first.Time, at
		return err
	}
	err = p.inTurn(ctx, e.id, func(q postgres.Querier) (err error) {
		out, err = postgres.Collect(ctx, q, scan, claimReplaysSQL, e.id, slotsPerEndpoint, p.lease.Seconds(), replaySlots, most)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("take leases of replays: %w", err)
	}
	return out, nil
}

// releaseReplay ends the lease of a replay's place, or removes the place if all its events were delivered.
func (p *places) releaseReplay(ctx context.Context, w *work) error {
	_, err := p.db.ExecContext(ctx, `WITH gone AS (
			DELETE FROM webhook_replay_places WHERE webhook_id = $1 AND conversation_id = $2 AND lease = $3 AND revision >= until_revision
		)
		UPDATE webhook_replay_places SET lease = NULL, leased_until = NULL
		WHERE webhook_id = $1 AND conversation_id = $2 AND lease = $3 AND revision < until_revision`, w.endpoint.id, w.conversationID, w.lease)
	return err
}

// completeReplays removes the replays that have no places left and nothing more to make, and returns their ids. Their events in the
// outbox are still delivered.
func (p *places) completeReplays(ctx context.Context, endpointID string) ([]string, error) {
	return postgres.Column[string](ctx, p.db,
		`DELETE FROM webhook_replays r WHERE r.webhook_id = $1 AND r.next_conversation IS NULL AND r.next_outbox IS NULL
			AND NOT EXISTS (SELECT FROM webhook_replay_places p WHERE p.replay_id = r.id) RETURNING r.id`, endpointID)
}
