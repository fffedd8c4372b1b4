package webhook

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/postgres"
)

// places holds the SQL of the endpoints' places. It uses the pool only, because the dispatcher does not link GORM.
type places struct {
	db *sql.DB
	// lease is the duration of a lease: twice the timeout of a delivery (fence.go).
	lease time.Duration
	// turns has a lock for each endpoint, so that only one claim of this process at a time waits in Postgres and uses a connection.
	turns sync.Map // of *sync.Mutex by endpoint
}

// endpointRow is an endpoint as the dispatcher reads it.
type endpointRow struct {
	target
	name    string
	types   map[string]bool
	failing bool
	// replays is set if a replay of the endpoint is incomplete.
	replays bool
	// behind is set if a place of the endpoint is behind, waiting if the outbox has events for it.
	behind, waiting bool
	// lastSuccess is the time of its last 2xx response, zero for none.
	lastSuccess time.Time
}

func (e *endpointRow) wants(typ string) bool { return e.types["*"] || e.types[typ] }

const (
	// lookBack is how far the watermark stays behind the present. A conversation's changed_at is the second in which the statement ran, but
	// others see the change only when it is committed. So lookBack must exceed the longest time between the two.
	lookBack = 3 * postgres.StatementTimeout
	// discoverBatch is how many conversations one statement considers.
	discoverBatch = 2000
)

func (p *places) endpoints(ctx context.Context) ([]endpointRow, error) {
	out, err := postgres.Collect(ctx, p.db, func(r postgres.Row, e *endpointRow) error {
		var secret, former []byte
		var types []byte
		var success *time.Time
		if err := r.Scan(&e.id, &e.name, &e.url, &types, &secret, &former, &e.failing, &success, &e.replays, &e.behind, &e.waiting); err != nil {
			return err
		}
		e.types = map[string]bool{}
		for _, t := range splitTypes(string(types)) {
			e.types[t] = true
		}
		if e.secrets = [][]byte{secret}; former != nil {
			e.secrets = append(e.secrets, former)
		}
		if success != nil {
			e.lastSuccess = *success
		}
		return nil
	}, `SELECT id, name, url, array_to_string(types, ','), secret, CASE WHEN former_until > clock_timestamp() THEN former_secret END,
			failing_since IS NOT NULL, last_success_at, EXISTS (SELECT FROM webhook_replays r WHERE r.webhook_id = webhooks.id),
			EXISTS (SELECT FROM webhook_places p WHERE p.webhook_id = webhooks.id AND p.behind), EXISTS (SELECT FROM outbox o WHERE o.webhook_id = webhooks.id)
		FROM webhooks WHERE disabled_reason IS NULL ORDER BY created_at`)
	if err != nil {
		return nil, fmt.Errorf("read webhooks: %w", err)
	}
	return out, nil
}

// discoverSQL marks the places of conversations that changed since the watermark, and moves the watermark. It makes missing places at the
// revision that the conversation had when the endpoint was created. Each revision is either a change or a message, so that revision
// is the number of both up to then. The statement returns no row if another dispatcher is running it.
const discoverSQL = `WITH w AS MATERIALIZED (
		SELECT id, since, watermark, watermark_id FROM webhooks WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED
	),
	moved AS MATERIALIZED (
		SELECT c.id, c.revision, c.changed_at FROM w JOIN conversations c
			ON (c.changed_at, c.id) > (greatest(w.watermark, '0001-01-01'), w.watermark_id)
		ORDER BY c.changed_at, c.id LIMIT $2
	),
	` + markSQL + `,
	last AS (
		SELECT count(*) AS n, max(changed_at) AS at, (array_agg(id ORDER BY changed_at DESC, id DESC))[1] AS id FROM moved
	)
	UPDATE webhooks t SET
		watermark = CASE WHEN l.n = $2 THEN l.at ELSE date_trunc('second', clock_timestamp()) - make_interval(secs => $3) END,
		watermark_id = CASE WHEN l.n = $2 THEN l.id ELSE '00000000-0000-0000-0000-000000000000' END
	FROM w, last l WHERE t.id = w.id
	RETURNING l.n`

// markSQL is the part of discoverSQL and hintedSQL that marks and makes places. It needs the endpoint w and the conversations moved.
const markSQL = `fresh AS (
		INSERT INTO webhook_places (webhook_id, conversation_id, revision, behind, behind_since)
		SELECT w.id, m.id, s.revision, s.revision < m.revision, m.changed_at
		FROM w CROSS JOIN moved m
		CROSS JOIN LATERAL (SELECT CASE WHEN w.since = '-infinity' THEN 0 ELSE
			(SELECT count(*) FROM conversation_changes x WHERE x.conversation_id = m.id AND x.created_at <= w.since)
			+ (SELECT coalesce(max(y.seq), 0) FROM messages y WHERE y.conversation_id = m.id AND y.created_at <= w.since) END AS revision) s
		WHERE NOT EXISTS (SELECT FROM webhook_places p WHERE p.webhook_id = w.id AND p.conversation_id = m.id)
		ON CONFLICT DO NOTHING RETURNING behind
	),
	marked AS (
		UPDATE webhook_places p SET behind = true, behind_since = m.changed_at FROM w, moved m
		WHERE p.webhook_id = w.id AND p.conversation_id = m.id AND NOT p.behind AND p.revision < m.revision RETURNING true
	)`

// hintedSQL is discoverSQL for conversations that hints named. It waits for the lock of another dispatcher, because conversations that it
// skipped would wait for the next poll.
const hintedSQL = `WITH w AS MATERIALIZED (
		SELECT id, since FROM webhooks WHERE id = $1 FOR NO KEY UPDATE
	),
	moved AS MATERIALIZED (
		SELECT c.id, c.revision, c.changed_at FROM w JOIN conversations c ON c.id = ANY ($2::uuid[])
	),
	` + markSQL + `
	SELECT (SELECT count(*) FROM fresh WHERE behind) + (SELECT count(*) FROM marked)`

// discoverHinted marks those of the endpoint's places in the conversations that are behind. It returns how many it marked.
func (p *places) discoverHinted(ctx context.Context, endpointID string, conversationIDs []string) (marked int, err error) {
	if err = p.db.QueryRowContext(ctx, hintedSQL, endpointID, conversationIDs).Scan(&marked); err != nil {
		return 0, fmt.Errorf("look at conversations of hints: %w", err)
	}
	return marked, nil
}

// discover finds conversations in which the endpoint is behind. found is how many it considered: if that is discoverBatch, there may be more
// and discover has to be called again at once.
func (p *places) discover(ctx context.Context, endpointID string) (found int, err error) {
	err = p.db.QueryRowContext(ctx, discoverSQL, endpointID, discoverBatch, lookBack.Seconds()).Scan(&found)
	if errors.Is(err, sql.ErrNoRows) { // another dispatcher is running it
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look for changed conversations: %w", err)
	}
	return found, nil
}

// work is a place or a subject of the outbox whose lease this dispatcher holds.
type work struct {
	endpoint endpointRow
	lease    string
	// conversationID and revision are set for a place, subject for a subject of the outbox.
	conversationID string
	revision       int64
	subject        string
	// replay is set for a place of a replay, which ends at the revision until.
	replay bool
	until  int64
	// reached is the commit time of the last event that the place has passed, zero for none.
	reached     time.Time
	attempts    int
	firstFailed time.Time
	// leasedAt is the time before the last statement that extended the lease, by this process's clock. noted is the time at which a
	// success was last written.
	leasedAt, noted time.Time
	// turnEnds is when other conversations have their turn.
	turnEnds time.Time
}

// inTurn runs a claim for an endpoint while no other dispatcher runs one for it. A separate statement takes the lock: if the claim itself
// waited for the lock, its snapshot would be older than the lock, and it would count slots that are taken as free.
func (p *places) inTurn(ctx context.Context, endpointID string, claim func(q postgres.Querier) error) error {
	lock, _ := p.turns.LoadOrStore(endpointID, &sync.Mutex{})
	turn := lock.(*sync.Mutex) //nolint:forcetypeassert // nothing else is stored
	turn.Lock()
	defer turn.Unlock()
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, `SELECT FROM webhooks WHERE id = $1 FOR NO KEY UPDATE`, endpointID); err != nil {
		return err
	}
	if err := claim(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// freeSQL counts an endpoint's free slots. An endpoint that is failing has one slot, and only when its next probe is due. Statements with it
// need inTurn.
const freeSQL = `WITH w AS MATERIALIZED (
		SELECT id, CASE WHEN failing_since IS NULL THEN $2::int WHEN next_probe_at IS NULL OR next_probe_at <= clock_timestamp() THEN 1 ELSE 0 END AS slots
		FROM webhooks WHERE id = $1 AND disabled_reason IS NULL
	),
	replaying AS MATERIALIZED (
		SELECT count(*) AS n FROM webhook_replay_places p WHERE p.webhook_id = $1 AND p.leased_until > clock_timestamp()
	),
	free AS MATERIALIZED (
		SELECT greatest(0, w.slots - r.n
			- (SELECT count(*) FROM webhook_places p WHERE p.webhook_id = w.id AND p.lease IS NOT NULL AND p.leased_until > clock_timestamp())
			- (SELECT count(*) FROM outbox_places p WHERE p.webhook_id = w.id AND p.leased_until > clock_timestamp())) AS n FROM w, replaying r
	),
	`

// claimSQL leases places that are due, as many as the endpoint has free slots.
const claimSQL = freeSQL + `
	due AS MATERIALIZED (
		SELECT p.conversation_id FROM webhook_places p
		WHERE p.webhook_id = $1 AND p.behind AND (p.next_at IS NULL OR p.next_at <= clock_timestamp())
			AND (p.leased_until IS NULL OR p.leased_until <= clock_timestamp())
		ORDER BY p.next_at NULLS FIRST LIMIT (SELECT least(n, $4) FROM free)
		FOR UPDATE SKIP LOCKED
	)
	UPDATE webhook_places p SET lease = gen_random_uuid(), leased_until = clock_timestamp() + make_interval(secs => $3)
	FROM due d WHERE p.webhook_id = $1 AND p.conversation_id = d.conversation_id
	RETURNING p.lease, p.conversation_id, p.revision, p.attempts, p.first_failed_at`

func (p *places) claim(ctx context.Context, e *endpointRow, most int) (out []work, err error) {
	at := time.Now()
	scan := func(r postgres.Row, w *work) error {
		var first *time.Time
		if err := r.Scan(&w.lease, &w.conversationID, &w.revision, &w.attempts, &first); err != nil {
			return err
		}
		if w.endpoint, w.leasedAt = *e, at; first != nil {
			w.firstFailed = *first
		}
		return nil
	}
	err = p.inTurn(ctx, e.id, func(q postgres.Querier) (err error) {
		out, err = postgres.Collect(ctx, q, scan, claimSQL, e.id, slotsPerEndpoint, p.lease.Seconds(), most)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("take leases: %w", err)
	}
	return out, nil
}

// leased returns the table with the leased row, and the column that identifies the row within the endpoint, with its value.
func (w *work) leased() (table, column, key string) {
	switch {
	case w.subject != "":
		return "outbox_places", "subject", w.subject
	case w.replay:
		return "webhook_replay_places", "conversation_id", w.conversationID
	}
	return "webhook_places", "conversation_id", w.conversationID
}

// update changes the leased row, or returns ErrLeaseLost. $1 to $3 are the endpoint, the row's key and the lease; args begin with $4.
func (p *places) update(ctx context.Context, w *work, set, and string, args ...any) error {
	table, column, key := w.leased()
	return postgres.Held(p.db.ExecContext(ctx, `UPDATE `+table+` SET `+set+` WHERE webhook_id = $1 AND `+column+` = $2 AND lease = $3`+and,
		append([]any{w.endpoint.id, key, w.lease}, args...)...))
}

// renew extends the lease for one delivery. It returns ErrLeaseLost if the lease has ended.
func (p *places) renew(ctx context.Context, w *work) error {
	at := time.Now()
	err := p.update(ctx, w, `leased_until = clock_timestamp() + make_interval(secs => $4)`, ` AND leased_until > clock_timestamp()`, p.lease.Seconds())
	if err == nil {
		w.leasedAt = at
	}
	return err
}

// advance moves a place to a revision whose events need no further delivery, and extends its lease.
func (p *places) advance(ctx context.Context, w *work, revision int64) error {
	at := time.Now()
	err := p.update(ctx, w, `revision = $4, attempts = 0, first_failed_at = NULL, next_at = NULL,
		leased_until = clock_timestamp() + make_interval(secs => $5)`, "", revision, p.lease.Seconds())
	if err == nil {
		w.revision, w.attempts, w.firstFailed, w.leasedAt = revision, 0, time.Time{}, at
	}
	return err
}

// release ends a lease. It computes behind again, because there may be new events.
func (p *places) release(ctx context.Context, w *work) error {
	if w.replay {
		return p.releaseReplay(ctx, w)
	}
	_, err := p.db.ExecContext(ctx, `UPDATE webhook_places p SET lease = NULL, leased_until = NULL, behind_since = coalesce($4, behind_since),
			behind = p.revision < coalesce((SELECT c.revision FROM conversations c WHERE c.id = p.conversation_id), 0)
		WHERE p.webhook_id = $1 AND p.conversation_id = $2 AND p.lease = $3`, w.endpoint.id, w.conversationID, w.lease, sql.NullTime{Time: w.reached, Valid: !w.reached.IsZero()})
	return err
}

// postpone records a failed attempt and the time of the next one, and ends the lease.
func (p *places) postpone(ctx context.Context, w *work, attempts int, in time.Duration) error {
	return p.update(ctx, w, `attempts = $4, first_failed_at = coalesce(first_failed_at, clock_timestamp()),
		next_at = clock_timestamp() + make_interval(secs => $5), lease = NULL, leased_until = NULL`, "", attempts, in.Seconds())
}

// succeeded records a 2xx response. If the endpoint was failing, its waiting places are due at once, except those whose event it has refused.
func (p *places) succeeded(ctx context.Context, e *endpointRow) error {
	_, err := p.db.ExecContext(ctx, `WITH w AS (
			UPDATE webhooks t SET last_success_at = clock_timestamp(), failing_since = NULL, next_probe_at = NULL
			FROM webhooks o WHERE t.id = $1 AND o.id = t.id AND (o.failing_since IS NOT NULL OR o.last_success_at IS NULL OR o.last_success_at < clock_timestamp() - interval '1 second')
			RETURNING t.id, o.failing_since)
		UPDATE webhook_places p SET next_at = NULL FROM w
		WHERE p.webhook_id = w.id AND w.failing_since IS NOT NULL AND p.behind AND p.attempts = 0 AND p.lease IS NULL`, e.id)
	return err
}

// failed records a failure and when the endpoint is probed next. It disables an endpoint that responded 410 or is down for longer than
// disableAfter.
func (p *places) failed(ctx context.Context, e *endpointRow, gone bool, after, disableAfter time.Duration) (disabled bool, err error) {
	err = p.db.QueryRowContext(ctx, `UPDATE webhooks SET failing_since = coalesce(failing_since, clock_timestamp()),
			next_probe_at = clock_timestamp() + greatest(make_interval(secs => $3),
				least(greatest((clock_timestamp() - coalesce(failing_since, clock_timestamp())) / 4, interval '1 second'), interval '60 seconds')),
			disabled_reason = CASE WHEN disabled_reason IS NOT NULL THEN disabled_reason WHEN $2::boolean THEN 'it answered 410'
				WHEN failing_since < clock_timestamp() - make_interval(secs => $4) THEN 'it was down for too long' END
		WHERE id = $1 RETURNING disabled_reason IS NOT NULL`, e.id, gone, after.Seconds(), disableAfter.Seconds()).Scan(&disabled)
	if errors.Is(err, sql.ErrNoRows) {
		return true, nil
	}
	return disabled, err
}

// lastSuccess returns the time of the endpoint's last 2xx response. down is set if another event has failed for the first time since then:
// the endpoint accepts nothing at present.
func (p *places) lastSuccess(ctx context.Context, w *work) (at time.Time, down bool, err error) {
	var t *time.Time
	err = p.db.QueryRowContext(ctx, `SELECT t.last_success_at,
			EXISTS (SELECT FROM webhook_places p WHERE p.webhook_id = t.id AND p.behind AND p.first_failed_at > t.last_success_at AND p.conversation_id::text <> $2)
			OR EXISTS (SELECT FROM outbox_places p WHERE p.webhook_id = t.id AND p.first_failed_at > t.last_success_at AND p.subject <> $3)
		FROM webhooks t WHERE t.id = $1`, w.endpoint.id, w.conversationID, w.subject).Scan(&t, &down)
	if t != nil {
		at = *t
	}
	return at, down, err
}

// conversation reads the part of a conversation that its events carry.
func (p *places) conversation(ctx context.Context, conversationID string) (*conversationRef, error) {
	c := &conversationRef{}
	var metadata []byte
	err := p.db.QueryRowContext(ctx, `SELECT id, external_id, type, metadata FROM conversations WHERE id = $1`, conversationID).
		Scan(&c.ID, &c.ExternalID, &c.Type, &metadata)
	if err != nil {
		return nil, fmt.Errorf("read an event's conversation: %w", err)
	}
	if c.Metadata = metadata; metadata == nil {
		c.Metadata = []byte("null")
	}
	return c, nil
}

// keptAttempts is how long failed attempts are kept.
const keptAttempts = 7 * 24 * time.Hour

func (p *places) sweep(ctx context.Context, outboxKeep time.Duration) error {
	for _, s := range []struct {
		query string
		args  []any
	}{
		{`DELETE FROM webhook_attempts WHERE at < clock_timestamp() - make_interval(secs => $1)`, []any{keptAttempts.Seconds()}},
		{`DELETE FROM outbox WHERE created_at < clock_timestamp() - make_interval(secs => $1)`, []any{outboxKeep.Seconds()}},
		{`DELETE FROM outbox_sent WHERE created_at < clock_timestamp() - make_interval(secs => $1)`, []any{outboxKeep.Seconds()}},
		{`DELETE FROM outbox_places p WHERE (p.leased_until IS NULL OR p.leased_until < clock_timestamp())
			AND NOT EXISTS (SELECT FROM outbox o WHERE o.webhook_id = p.webhook_id AND o.subject = p.subject)`, nil},
	} {
		if _, err := p.db.ExecContext(ctx, s.query, s.args...); err != nil {
			return err
		}
	}
	return nil
}
