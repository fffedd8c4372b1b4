package push

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/postgres"
)

const (
	// pollEvery is the interval of polls. If no conversation waits and the delay is longer than pollIdle, it is pollIdle: new messages are
	// still found before they are due.
	pollEvery = 300 * time.Millisecond
	pollIdle  = time.Second
	// decisionsAtOnce is how many conversations are decided at once.
	decisionsAtOnce = 8
	// pausePerConversation is the time between two decisions that sent pushes.
	pausePerConversation = 3 * time.Second
	// redisWait is how old a message may become while its decision waits for Redis. After that the decision is made without pending reads,
	// and as if no user were active.
	redisWait = time.Minute
	// sweepEvery is how often expired devices are removed.
	sweepEvery = time.Hour
)

// Reads are the pending reads, which Postgres does not have yet.
type Reads interface {
	// MarkersAt reads the pending read marker of each user in a conversation, a zero marker if there is none.
	MarkersAt(ctx context.Context, conversationID string, userIDs []string) ([]chat.PendingMarker, error)
}

// Active returns the users who are active on any device (Watch).
type Active interface {
	Active(ctx context.Context, userIDs []string) (map[string]bool, error)
}

// Decider decides which pushes are sent. Any number of deciders may run: each decides conversations whose lease it holds.
type Decider struct {
	delay   time.Duration
	places  *places
	reads   Reads
	active  Active
	content *content
	metrics *Metrics
	lag     func(seconds float64)
	log     *slog.Logger
	// requested is called after pushes were requested; nil for nothing.
	requested func()
}

// NewDecider makes a decider, which needs its Run. A message is decided delay after its commit. lag is called with the time in seconds
// that the oldest message has waited beyond the delay.
func NewDecider(delay time.Duration, db *sql.DB, reads Reads, active Active, c Contents, m *Metrics, lag func(seconds float64), log *slog.Logger) *Decider {
	return &Decider{delay: delay, places: &places{db}, reads: reads, active: active, content: newContent(db, c), metrics: m, lag: lag, log: log}
}

// OnRequest sets a function that is called after pushes were requested, from any goroutine. Call OnRequest before Run.
func (d *Decider) OnRequest(f func()) { d.requested = f }

// Run decides until ctx ends. Decisions in progress are finished.
func (d *Decider) Run(ctx context.Context) error {
	var asked, swept time.Time
	used := false
	return pace(ctx, nil, func(ctx context.Context) time.Duration {
		if time.Since(swept) >= sweepEvery {
			swept = time.Now()
			d.warn(ctx, "devices that ended cannot be removed", d.places.sweep(ctx))
		}
		if !used && time.Since(asked) < askEvery {
			return pollEvery
		}
		pause := pollEvery
		var err error
		if time.Since(asked) >= askEvery {
			asked = time.Now()
			var waits float64
			if used, err = inUse(ctx, d.places.db); err == nil && used {
				waits, err = d.places.waiting(ctx, d.delay)
			}
			d.warn(ctx, "it is not known whether anybody gets pushes", err)
			d.lag(waits)
		}
		if used {
			waits, failed := d.poll(ctx)
			if !waits && d.delay > pollIdle {
				pause = pollIdle
			}
			err = errors.Join(err, failed)
			d.warn(ctx, "pushes cannot be decided on", err)
		}
		if err == nil {
			d.metrics.decided.SetToCurrentTime()
		}
		return pause
	})
}

func (d *Decider) warn(ctx context.Context, msg string, err error) {
	if err != nil && ctx.Err() == nil && !errors.Is(err, postgres.ErrLeaseLost) {
		d.log.WarnContext(ctx, msg, "error", err)
	}
}

// poll decides all conversations that are due. waits is set if others wait until they are due.
func (d *Decider) poll(ctx context.Context) (waits bool, err error) {
	for more := true; more && ctx.Err() == nil; {
		if more, err = d.places.discover(ctx); err != nil {
			return true, err
		}
	}
	for ctx.Err() == nil {
		claimed, err := d.places.claim(ctx, decisionsAtOnce)
		if err != nil {
			return true, err
		}
		if len(claimed) == 0 {
			return d.places.anyBehind(ctx)
		}
		wanted, err := d.places.wantedSince(ctx)
		if err != nil {
			return true, err
		}
		var g errgroup.Group
		for i := range claimed {
			g.Go(func() error {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseFor)
				defer cancel()
				return d.decide(ctx, &claimed[i], wanted)
			})
		}
		if err := g.Wait(); err != nil {
			return true, err
		}
	}
	return true, nil
}

// decide decides the due messages of a conversation for each member, and moves the place. wanted is when the first webhook for
// push.requested was created, nil if there is none.
func (d *Decider) decide(ctx context.Context, w *place, wanted *time.Time) error {
	messages, upTo, next, err := d.places.dueMessages(ctx, w, d.delay)
	if err != nil {
		return err
	}
	if len(messages) == 0 {
		return advance(ctx, d.places.db, w, upTo, next)
	}
	a, err := d.places.audience(ctx, w.conversationID, upTo, wanted)
	if err != nil {
		return err
	}
	known, err := d.addFacts(ctx, w.conversationID, &a, messages)
	if err != nil {
		return err
	}
	if !known {
		return advance(ctx, d.places.db, w, w.seq, time.Second)
	}
	var pushes []pushed
	for i := range a.members {
		m := &a.members[i]
		newest, outcome := m.decide(a.count, messages)
		d.metrics.decisions.WithLabelValues(outcome).Inc()
		if newest != nil {
			pushes = append(pushes, pushed{userID: m.userID, messageID: newest.id, seq: newest.seq, after: max(m.readSeq, m.lastPush)})
		}
	}
	if len(pushes) == 0 {
		return advance(ctx, d.places.db, w, upTo, next)
	}
	if err := d.places.count(ctx, w.conversationID, pushes); err != nil {
		return err
	}
	if wanted != nil {
		if err := d.content.fill(ctx, w.conversationID, pushes); err != nil {
			return err
		}
	}
	if err := d.places.request(ctx, w, upTo, pushes); err != nil {
		return err
	}
	if d.requested != nil {
		d.requested()
	}
	return nil
}

// addFacts adds pending reads, activity (both from Redis) and blocks to the members. known is false if Redis is unavailable and the decision
// can still wait.
func (d *Decider) addFacts(ctx context.Context, conversationID string, a *audience, messages []due) (known bool, err error) {
	if len(a.members) == 0 {
		return true, nil
	}
	users := make([]string, len(a.members))
	for i := range a.members {
		users[i] = a.members[i].userID
		a.members[i].readSeq = a.members[i].lastReadSeq
	}
	pending, err := d.reads.MarkersAt(ctx, conversationID, users)
	var active map[string]bool
	if err == nil {
		active, err = d.active.Active(ctx, users)
	}
	if err != nil && time.Since(messages[0].createdAt) < redisWait {
		d.log.DebugContext(ctx, "a decision on pushes waits for Redis", "error", err)
		return false, nil
	}
	for i := range a.members {
		m := &a.members[i]
		m.active = active[m.userID]
		if err == nil {
			// A marker with another version was moved back since. A marker beyond the last message belongs to a history that was lost.
			if p := pending[i]; p.Seq <= a.lastSeq && (p.Version == m.markerVersion || p.Version == -1) {
				m.readSeq = max(m.readSeq, p.Seq)
			}
		}
	}
	return true, d.places.readBlocks(ctx, a.members, messages)
}

// pushed is a push to one user that was decided.
type pushed struct {
	userID, messageID string
	seq               int64
	// count is the number of unread messages after the seq after.
	after, count int64
	payload      []byte // of push.requested, nil if no webhook wants it
}

// maxCount is the largest count: counting stops there.
const maxCount = 1000

// count sets the counts of pushes: the messages of other users that are unread since the last push.
func (p *places) count(ctx context.Context, conversationID string, pushes []pushed) error {
	users, from, to := make([]string, len(pushes)), make([]int64, len(pushes)), make([]int64, len(pushes))
	for i, x := range pushes {
		users[i], from[i], to[i] = x.userID, x.after, x.seq
	}
	counts, err := postgres.Column[int64](ctx, p.db, `SELECT (SELECT count(*) FROM (SELECT FROM messages m WHERE m.conversation_id = $1 AND m.seq > x.after AND m.seq <= x.upto AND m.sender_id <> x.user_id
			AND m.deleted_at IS NULL ORDER BY m.seq DESC LIMIT $5) few)
		FROM unnest($2::text[]::uuid[], $3::bigint[], $4::bigint[]) WITH ORDINALITY AS x (user_id, after, upto, n) ORDER BY x.n`,
		conversationID, users, from, to, maxCount)
	if err != nil {
		return fmt.Errorf("count unread messages: %w", err)
	}
	for i, n := range counts {
		pushes[i].count = n
	}
	return nil
}

// request stores pushes for the Sender and for webhooks, and moves the place, in one transaction. A waiting push to the same device about
// the same conversation is replaced.
func (p *places) request(ctx context.Context, w *place, upTo int64, pushes []pushed) error {
	n := len(pushes)
	users, messages, seqs, counts, payloads := make([]string, n), make([]string, n), make([]int64, n), make([]int64, n), make([]*string, n)
	for i, x := range pushes {
		users[i], messages[i], seqs[i], counts[i] = x.userID, x.messageID, x.seq, x.count
		if x.payload != nil {
			s := string(x.payload)
			payloads[i] = &s
		}
	}
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := advance(ctx, tx, w, upTo, pausePerConversation); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO push_sends AS o (device, conversation_id, lane, message_id, seq, count)
		SELECT d.id, $1, d.lane, x.message_id, x.seq, x.count
		FROM unnest($2::text[]::uuid[], $3::text[]::uuid[], $4::bigint[], $5::bigint[]) AS x (user_id, message_id, seq, count)
		JOIN push_devices d ON d.user_id = x.user_id`+joinSession+`WHERE `+liveDevice+` ORDER BY d.id FOR KEY SHARE OF d
		ON CONFLICT (device, conversation_id) DO UPDATE SET message_id = excluded.message_id, seq = excluded.seq,
			count = excluded.count + CASE WHEN o.lease IS NULL THEN o.count ELSE 0 END, lane = excluded.lane,
			attempts = 0, created_at = clock_timestamp(), next_at = CASE WHEN o.lease IS NULL THEN greatest(o.next_at, clock_timestamp()) ELSE clock_timestamp() END,
			lease = NULL`, w.conversationID, users, messages, seqs, counts); err != nil {
		return fmt.Errorf("have pushes sent: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO push_marks (user_id, conversation_id, seq)
		SELECT x.user_id, $1, x.seq FROM unnest($2::text[]::uuid[], $3::bigint[]) AS x (user_id, seq) ORDER BY 1
		ON CONFLICT (user_id, conversation_id) DO UPDATE SET seq = excluded.seq`, w.conversationID, users, seqs); err != nil {
		return fmt.Errorf("note pushes: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO outbox (webhook_id, event_id, subject, type, user_ids, data)
		SELECT w.id, x.event, 'push:' || x.user_id, 'push.requested', ARRAY[x.user_id], x.data
		FROM (SELECT gen_random_uuid() AS event, u.user_id, jsonb_build_object('userId', u.user_id, 'push', u.push::jsonb) AS data
			FROM unnest($1::text[]::uuid[], $2::text[]) AS u (user_id, push) WHERE u.push IS NOT NULL) x
		CROSS JOIN (SELECT id `+wantedFrom+`) w`, users, payloads); err != nil {
		return fmt.Errorf("request pushes: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit pushes: %w", err)
	}
	return nil
}

// sweep removes devices whose session has ended or expired, and those that were not seen for 60 days.
func (p *places) sweep(ctx context.Context) error {
	_, err := p.db.ExecContext(ctx, `DELETE FROM push_devices x USING push_devices d`+joinSession+`WHERE x.id = d.id AND NOT coalesce(`+liveDevice+`, false)`)
	if err != nil {
		return fmt.Errorf("remove devices: %w", err)
	}
	return nil
}
