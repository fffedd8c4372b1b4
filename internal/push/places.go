package push

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/internal/postgres"
)

// places holds the SQL of the places, which say up to which seq each conversation was decided, and of the facts that a decision reads. It
// uses the pool only.
type places struct {
	db *sql.DB
}

const (
	// lookBack is how far the watermark stays behind the present, as in package webhook: a change's time is that of its statement, but others
	// see the change only when it is committed.
	lookBack = 3 * postgres.StatementTimeout
	// tooOld is the age from which no pushes of a message are sent, for example after a long outage of all dispatchers.
	tooOld = time.Hour
	// discoverBatch is how many conversations one statement considers, messagesAtOnce how many messages one decision considers: the newest.
	discoverBatch  = 2000
	messagesAtOnce = 200
	// leaseFor is the duration of a lease, and so the longest time that a decision may take.
	leaseFor = 30 * time.Second
)

// discoverSQL marks the places of conversations that changed since the watermark and have messages beyond the place. It makes missing places,
// and moves the watermark. The statement returns no row if another dispatcher is running it.
const discoverSQL = `WITH w AS MATERIALIZED (
		SELECT greatest(at, clock_timestamp() - make_interval(secs => $3)) AS at, id FROM push_watermark FOR NO KEY UPDATE SKIP LOCKED
	),
	moved AS MATERIALIZED (
		SELECT c.id, c.last_seq, c.changed_at FROM w JOIN conversations c ON (c.changed_at, c.id) > (w.at, w.id)
		ORDER BY c.changed_at, c.id LIMIT $1
	),
	marked AS (
		INSERT INTO push_places AS p (conversation_id, seq)
		SELECT m.id, coalesce((SELECT y.seq FROM messages y WHERE y.conversation_id = m.id AND y.created_at <= clock_timestamp() - make_interval(secs => $3)
			ORDER BY y.created_at DESC, y.id DESC LIMIT 1), 0)
		FROM moved m WHERE m.last_seq > 0 AND NOT EXISTS (SELECT FROM push_places o WHERE o.conversation_id = m.id AND (o.behind OR o.seq >= m.last_seq))
		ON CONFLICT (conversation_id) DO UPDATE SET behind = true
	),
	last AS (
		SELECT count(*) AS n, max(changed_at) AS at, (array_agg(id ORDER BY changed_at DESC, id DESC))[1] AS id FROM moved
	)
	UPDATE push_watermark t SET
		at = CASE WHEN l.n = $1 THEN l.at ELSE date_trunc('second', clock_timestamp()) - make_interval(secs => $2) END,
		id = CASE WHEN l.n = $1 THEN l.id ELSE '00000000-0000-0000-0000-000000000000' END
	FROM w, last l RETURNING l.n`

// discover finds conversations with undecided messages. more is set if there may be others, so that it has to be called again at once.
func (p *places) discover(ctx context.Context) (more bool, err error) {
	var n int
	err = p.db.QueryRowContext(ctx, discoverSQL, discoverBatch, lookBack.Seconds(), tooOld.Seconds()).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) { // another dispatcher is running it
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for new messages: %w", err)
	}
	return n == discoverBatch, nil
}

// anyBehind reports whether any conversation has undecided messages.
func (p *places) anyBehind(ctx context.Context) (behind bool, err error) {
	if err = p.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM push_places WHERE behind)`).Scan(&behind); err != nil {
		return true, fmt.Errorf("look for conversations to decide on: %w", err)
	}
	return behind, nil
}

// place is a conversation whose lease this dispatcher holds. seq is up to where it was decided.
type place struct {
	lease, conversationID string
	seq                   int64
}

func (p *places) claim(ctx context.Context, n int) ([]place, error) {
	out, err := postgres.Collect(ctx, p.db, func(r postgres.Row, w *place) error { return r.Scan(&w.lease, &w.conversationID, &w.seq) },
		`WITH d AS MATERIALIZED (
			SELECT conversation_id FROM push_places
			WHERE behind AND (next_at IS NULL OR next_at <= clock_timestamp()) AND (leased_until IS NULL OR leased_until <= clock_timestamp())
			ORDER BY next_at NULLS FIRST LIMIT $1 FOR UPDATE SKIP LOCKED
		)
		UPDATE push_places p SET lease = gen_random_uuid(), leased_until = clock_timestamp() + make_interval(secs => $2)
		FROM d WHERE p.conversation_id = d.conversation_id RETURNING p.lease, p.conversation_id, p.seq`, n, leaseFor.Seconds())
	if err != nil {
		return nil, fmt.Errorf("take leases: %w", err)
	}
	return out, nil
}

// advance moves a place to a seq and ends its lease. Later messages are decided after the pause. It returns ErrLeaseLost if the lease
// belongs to another dispatcher.
func advance(ctx context.Context, q postgres.Querier, w *place, seq int64, pause time.Duration) error {
	err := postgres.Held(q.ExecContext(ctx, `UPDATE push_places p SET seq = $3, lease = NULL, leased_until = NULL,
			next_at = clock_timestamp() + make_interval(secs => $4),
			behind = $3 < coalesce((SELECT c.last_seq FROM conversations c WHERE c.id = p.conversation_id), 0)
		WHERE conversation_id = $1 AND lease = $2`, w.conversationID, w.lease, seq, pause.Seconds()))
	if err != nil {
		return fmt.Errorf("move a place: %w", err)
	}
	return nil
}

// dueMessages reads the messages beyond a place whose delay is over, the newest messagesAtOnce, in the order of their seqs. upTo is the last
// seq whose delay is over, deleted messages included. next is the time until the next message is due, 0 if there is none.
func (p *places) dueMessages(ctx context.Context, w *place, delay time.Duration) (out []due, upTo int64, next time.Duration, err error) {
	var seconds float64
	err = p.db.QueryRowContext(ctx, `SELECT coalesce(max(seq) FILTER (WHERE wait <= interval '0'), $2),
			coalesce(extract(epoch FROM min(wait) FILTER (WHERE wait > interval '0')), 0)
		FROM (SELECT seq, created_at + make_interval(secs => $3) - clock_timestamp() AS wait FROM messages WHERE conversation_id = $1 AND seq > $2) m`,
		w.conversationID, w.seq, delay.Seconds()).Scan(&upTo, &seconds)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("read when messages are due: %w", err)
	}
	out, err = postgres.Collect(ctx, p.db, func(r postgres.Row, d *due) error {
		var ids *string
		err := r.Scan(&d.id, &d.seq, &d.senderID, &ids, &d.mentionsAll, &d.createdAt)
		if ids != nil {
			d.mentioned = postgres.ParseIDArray(*ids)
		}
		return err
	}, `SELECT * FROM (SELECT id, seq, sender_id, mention_ids::text, coalesce(mention_all, false), created_at FROM messages
			WHERE conversation_id = $1 AND seq > $2 AND seq <= $3 AND deleted_at IS NULL AND created_at > clock_timestamp() - make_interval(secs => $4)
			ORDER BY seq DESC LIMIT $5) m ORDER BY seq`,
		w.conversationID, w.seq, upTo, tooOld.Seconds(), messagesAtOnce)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("read messages: %w", err)
	}
	return out, upTo, time.Duration(seconds * float64(time.Second)), nil
}

// waiting returns how long the oldest undecided message has waited beyond the delay, in seconds. It considers the 100 conversations that
// are due first.
func (p *places) waiting(ctx context.Context, delay time.Duration) (seconds float64, err error) {
	err = p.db.QueryRowContext(ctx, `SELECT coalesce(greatest(0, extract(epoch FROM clock_timestamp() - min(m.at)) - $1::float8), 0)::float8
		FROM (SELECT conversation_id, seq FROM push_places WHERE behind ORDER BY next_at NULLS FIRST LIMIT 100) p
		CROSS JOIN LATERAL (SELECT created_at AS at FROM messages y WHERE y.conversation_id = p.conversation_id AND y.seq > p.seq ORDER BY y.seq LIMIT 1) m`,
		delay.Seconds()).Scan(&seconds)
	if err != nil {
		return 0, fmt.Errorf("read what waits for a decision: %w", err)
	}
	return seconds, nil
}

// liveDevice is the condition under which a device d gets pushes. It needs joinSession, which joins the device's session s, if it has one.
const (
	joinSession = ` LEFT JOIN sessions s ON s.id = d.session_id `
	liveDevice  = `(d.session_id IS NULL OR s.ended_at IS NULL AND s.expires_at > clock_timestamp())
		AND greatest(d.seen_at, s.last_used_at) > clock_timestamp() - interval '60 days'`
)

// audience has the members of a conversation who may get a push. count is the number of all members, lastSeq the conversation's last seq.
type audience struct {
	members []member
	count   int
	lastSeq int64
}

// audience reads the members with a live device, or all members if a webhook wants pushes. It leaves out members who have read everything
// according to Postgres.
func (p *places) audience(ctx context.Context, conversationID string, upTo int64, wantedSince *time.Time) (a audience, err error) {
	a.members, err = postgres.Collect(ctx, p.db, func(r postgres.Row, m *member) error {
		var since *time.Time
		err := r.Scan(&m.userID, &m.lastReadSeq, &m.markerVersion, &m.notifications, &m.muted, &m.barred, &m.level, &m.lastPush, &since, &a.count, &a.lastSeq)
		switch {
		case since == nil:
			m.devicesSince = *wantedSince
		case wantedSince != nil && wantedSince.Before(*since):
			m.devicesSince = *wantedSince
		default:
			m.devicesSince = *since
		}
		return err
	}, `SELECT m.user_id, m.last_read_seq, m.marker_version, coalesce(m.notifications, ''), coalesce(m.muted_until > clock_timestamp(), false),
			u.deleted_at IS NOT NULL OR u.deactivated_at IS NOT NULL OR u.banned_at IS NOT NULL AND coalesce(u.banned_until > clock_timestamp(), true),
			coalesce(f.level, 'all'), CASE WHEN k.seq <= c.last_seq THEN k.seq ELSE 0 END, d.since, c.member_count, c.last_seq
		FROM conversation_members m
		JOIN conversations c ON c.id = m.conversation_id
		JOIN users u ON u.id = m.user_id
		LEFT JOIN push_preferences f ON f.user_id = m.user_id
		LEFT JOIN push_marks k ON k.user_id = m.user_id AND k.conversation_id = m.conversation_id
		CROSS JOIN LATERAL (SELECT min(d.created_at) AS since FROM push_devices d`+joinSession+`WHERE d.user_id = m.user_id AND `+liveDevice+`) d
		WHERE m.conversation_id = $1 AND m.last_read_seq < $2 AND (d.since IS NOT NULL OR $3)`, conversationID, upTo, wantedSince != nil)
	if err != nil {
		return a, fmt.Errorf("read members: %w", err)
	}
	return a, nil
}

// readBlocks sets blocked in members: the senders from whom a block separates them, in either direction.
func (p *places) readBlocks(ctx context.Context, members []member, messages []due) error {
	users, senders := make([]string, len(members)), make([]string, len(messages))
	at := make(map[string]*member, len(members))
	for i := range members {
		users[i], at[members[i].userID] = members[i].userID, &members[i]
	}
	for i := range messages {
		senders[i] = messages[i].senderID
	}
	type pair struct{ member, sender string }
	pairs, err := postgres.Collect(ctx, p.db, func(r postgres.Row, b *pair) error { return r.Scan(&b.member, &b.sender) },
		`SELECT user_id, blocked_id FROM blocks WHERE user_id = ANY ($1::text[]::uuid[]) AND blocked_id = ANY ($2::text[]::uuid[])
		UNION SELECT blocked_id, user_id FROM blocks WHERE blocked_id = ANY ($1::text[]::uuid[]) AND user_id = ANY ($2::text[]::uuid[])`, users, senders)
	if err != nil {
		return fmt.Errorf("read blocks: %w", err)
	}
	for _, b := range pairs {
		m := at[b.member]
		if m.blocked == nil {
			m.blocked = map[string]bool{}
		}
		m.blocked[b.sender] = true
	}
	return nil
}

// wantedSince returns when the first webhook for push.requested was created, nil if there is none.
func (p *places) wantedSince(ctx context.Context) (since *time.Time, err error) {
	err = p.db.QueryRowContext(ctx, `SELECT min(w.created_at) FROM webhooks w WHERE w.id IN (SELECT id `+wantedFrom+`)`).Scan(&since)
	if err != nil {
		return nil, fmt.Errorf("read webhooks for pushes: %w", err)
	}
	return since, nil
}
