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
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
)

const nameKey = "webhooks_name_key"

// Store holds the SQL of endpoints, failed deliveries and dead events.
type Store struct {
	db *postgres.DB
}

// NewStore makes a store.
func NewStore(db *postgres.DB) *Store { return &Store{db: db} }

const endpointSQL = `SELECT w.id, w.name, w.url, array_to_string(w.types, ','),
		CASE WHEN w.disabled_reason IS NOT NULL THEN 'disabled' WHEN w.failing_since IS NOT NULL THEN 'failing' ELSE 'active' END,
		w.disabled_reason, w.created_at,
		(SELECT count(*) FROM webhook_places p WHERE p.webhook_id = w.id AND p.behind),
		(SELECT min(coalesce(p.behind_since, c.changed_at)) FROM webhook_places p JOIN conversations c ON c.id = p.conversation_id WHERE p.webhook_id = w.id AND p.behind),
		(SELECT count(*) FROM webhook_dead d WHERE d.webhook_id = w.id)
	FROM webhooks w`

func scanEndpoint(r postgres.Row, e *Endpoint) error {
	var types string
	err := r.Scan(&e.ID, &e.Name, &e.URL, &types, &e.State, &e.DisabledReason, &e.CreatedAt, &e.Lag.Conversations, &e.Lag.OldestAt, &e.Dead)
	e.Types = strings.Split(types, ",")
	return err
}

func (s *Store) list(ctx context.Context) ([]Endpoint, error) {
	out, err := postgres.Collect(ctx, s.db.SQL, scanEndpoint, endpointSQL+` ORDER BY w.created_at, w.id`)
	if err != nil {
		return nil, fmt.Errorf("list webhooks: %w", err)
	}
	return out, nil
}

func endpointOf(ctx context.Context, q postgres.Querier, endpointID string) (e Endpoint, err error) {
	err = scanEndpoint(q.QueryRowContext(ctx, endpointSQL+` WHERE w.id = $1`, endpointID), &e)
	if errors.Is(err, sql.ErrNoRows) {
		return e, ErrNotFound
	}
	if err != nil {
		return e, fmt.Errorf("read a webhook: %w", err)
	}
	return e, nil
}

// change runs f and records an audit entry in one transaction, and returns the changed endpoint.
func (s *Store) change(ctx context.Context, endpointID, action string, f func(q postgres.Querier) error) (e Endpoint, err error) {
	err = s.db.Tx(ctx, func(tx *gorm.DB) error {
		if err := f(postgres.In(tx)); err != nil {
			return err
		}
		if err := audit.Record(ctx, tx, audit.Entry{Action: action, TargetType: "webhook", TargetID: endpointID}); err != nil {
			return err
		}
		if action == "webhook.delete" {
			return nil
		}
		e, err = endpointOf(postgres.Context(tx), postgres.In(tx), endpointID)
		return err
	})
	if postgres.IsUniqueViolation(err, nameKey) {
		return e, ErrNameTaken
	}
	return e, err
}

func (s *Store) insert(ctx context.Context, endpointID string, d *Draft, sealed []byte) (Endpoint, error) {
	since := `clock_timestamp()`
	if d.From.Value == "beginning" {
		since = `'-infinity'::timestamptz`
	}
	return s.change(ctx, endpointID, "webhook.create", func(q postgres.Querier) error {
		if _, err := q.ExecContext(ctx, `LOCK TABLE webhooks IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return fmt.Errorf("lock webhooks: %w", err)
		}
		var n int
		if err := q.QueryRowContext(ctx, `SELECT count(*) FROM webhooks`).Scan(&n); err != nil {
			return fmt.Errorf("count webhooks: %w", err)
		}
		if n >= maxEndpoints {
			return ErrTooMany
		}
		// The watermark begins 30 seconds in the past, so that changes of transactions that are still running are found.
		_, err := q.ExecContext(ctx, `INSERT INTO webhooks (id, name, url, types, secret, since, watermark)
			SELECT $1, $2, $3, $4::text[], $5, s.since, CASE WHEN s.since = '-infinity' THEN s.since ELSE clock_timestamp() - interval '30 seconds' END
			FROM (SELECT `+since+` AS since) s`, endpointID, d.Name, d.URL, d.Types, sealed)
		return err
	})
}

func affected(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, ErrNotFound)
	}
	return nil
}

func (s *Store) update(ctx context.Context, endpointID string, c *Change) (Endpoint, error) {
	return s.change(ctx, endpointID, "webhook.update", func(q postgres.Querier) error {
		var url, state *string
		if c.URL.Set {
			url = &c.URL.Value
		}
		if c.State.Set {
			state = &c.State.Value
		}
		return affected(q.ExecContext(ctx, `UPDATE webhooks SET url = coalesce($2, url), types = coalesce($3::text[], types),
				disabled_reason = CASE $4::text WHEN 'disabled' THEN coalesce(disabled_reason, 'by a server key') WHEN 'active' THEN NULL ELSE disabled_reason END,
				failing_since = CASE $4::text WHEN 'active' THEN NULL ELSE failing_since END, next_probe_at = NULL
			WHERE id = $1`, endpointID, url, c.Types, state))
	})
}

func (s *Store) delete(ctx context.Context, endpointID string) error {
	_, err := s.change(ctx, endpointID, "webhook.delete", func(q postgres.Querier) error {
		return affected(q.ExecContext(ctx, `DELETE FROM webhooks WHERE id = $1`, endpointID))
	})
	return err
}

// formerLife is how long the former secret is used after a rotation.
const formerLife = 24 * time.Hour

func (s *Store) rotate(ctx context.Context, endpointID string, sealed []byte) error {
	_, err := s.change(ctx, endpointID, "webhook.rotate", func(q postgres.Querier) error {
		return affected(q.ExecContext(ctx, `UPDATE webhooks SET former_secret = secret, former_until = clock_timestamp() + make_interval(secs => $3), secret = $2
			WHERE id = $1`, endpointID, sealed, formerLife.Seconds()))
	})
	return err
}

// target is an endpoint's URL, with the secrets that sign its deliveries.
type target struct {
	id, url string
	secrets [][]byte // sealed, the newest first
}

func (s *Store) target(ctx context.Context, endpointID string) (t target, err error) {
	var secret, former []byte
	err = s.db.SQL.QueryRowContext(ctx, `SELECT id, url, secret, CASE WHEN former_until > clock_timestamp() THEN former_secret END
		FROM webhooks WHERE id = $1`, endpointID).Scan(&t.id, &t.url, &secret, &former)
	if errors.Is(err, sql.ErrNoRows) {
		return t, ErrNotFound
	}
	if err != nil {
		return t, fmt.Errorf("read a webhook's secrets: %w", err)
	}
	if t.secrets = [][]byte{secret}; former != nil {
		t.secrets = append(t.secrets, former)
	}
	return t, nil
}

func page(query string, before *cursor.Position, limit int, endpointID string) (string, []any) {
	args := []any{endpointID, limit}
	if before != nil {
		query += ` AND (at, id) < ($3::timestamptz, $4::uuid)`
		args = append(args, before.Time, before.ID)
	}
	return query + ` ORDER BY at DESC, id DESC LIMIT $2`, args
}

func (s *Store) attempts(ctx context.Context, endpointID string, before *cursor.Position, limit int) ([]Attempt, error) {
	query, args := page(`SELECT id, event, type, at, status, error, body FROM webhook_attempts WHERE webhook_id = $1`, before, limit, endpointID)
	out, err := postgres.Collect(ctx, s.db.SQL, func(r postgres.Row, a *Attempt) error {
		return r.Scan(&a.ID, &a.Event, &a.Type, &a.At, &a.Status, &a.Error, &a.Body)
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list failed deliveries: %w", err)
	}
	return out, nil
}

func (s *Store) dead(ctx context.Context, endpointID string, before *cursor.Position, limit int) ([]Dead, error) {
	query, args := page(`SELECT id, event, type, at, error FROM webhook_dead WHERE webhook_id = $1`, before, limit, endpointID)
	out, err := postgres.Collect(ctx, s.db.SQL, func(r postgres.Row, d *Dead) error {
		return r.Scan(&d.ID, &d.Event, &d.Type, &d.At, &d.Error)
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list dead events: %w", err)
	}
	return out, nil
}

// deadEvent reads the delivery of a dead event. It returns ErrNotFound if there is none.
func (s *Store) deadEvent(ctx context.Context, endpointID, event string) (d delivery, err error) {
	err = s.db.SQL.QueryRowContext(ctx, `SELECT event, type, body FROM webhook_dead WHERE webhook_id = $1 AND event = $2`, endpointID, event).
		Scan(&d.id, &d.typ, &d.body)
	if errors.Is(err, sql.ErrNoRows) {
		return d, ErrNotFound
	}
	if err != nil {
		return d, fmt.Errorf("read a dead event: %w", err)
	}
	return d, nil
}

const dropDeadSQL = `DELETE FROM webhook_dead WHERE webhook_id = $1 AND event = $2`

// settleDead records the result of a retry: a dead event that was delivered is removed, otherwise its error is updated.
func (s *Store) settleDead(ctx context.Context, endpointID, event string, o outcome) error {
	detail := map[string]any{"event": event, "delivered": o.ok()}
	return s.changeDead(ctx, endpointID, "webhook.retry", detail, func(q postgres.Querier) error {
		if o.ok() {
			_, err := q.ExecContext(ctx, dropDeadSQL, endpointID, event)
			return err
		}
		_, err := q.ExecContext(ctx, `UPDATE webhook_dead SET at = clock_timestamp(), error = $3 WHERE webhook_id = $1 AND event = $2`, endpointID, event, o.reason)
		return err
	})
}

func (s *Store) forgetDead(ctx context.Context, endpointID, event string) error {
	return s.changeDead(ctx, endpointID, "webhook.forget", map[string]any{"event": event}, func(q postgres.Querier) error {
		return affected(q.ExecContext(ctx, dropDeadSQL, endpointID, event))
	})
}

// changeDead runs f and records an audit entry in one transaction.
func (s *Store) changeDead(ctx context.Context, endpointID, action string, detail map[string]any, f func(q postgres.Querier) error) error {
	return s.db.Tx(ctx, func(tx *gorm.DB) error {
		if err := f(postgres.In(tx)); err != nil {
			return fmt.Errorf("change a dead event: %w", err)
		}
		return audit.Record(ctx, tx, audit.Entry{Action: action, TargetType: "webhook", TargetID: endpointID, Detail: detail})
	})
}

// bury stores an event as dead.
func bury(ctx context.Context, q postgres.Querier, endpointID string, d delivery, reason string) error {
	_, err := q.ExecContext(ctx, `INSERT INTO webhook_dead (id, webhook_id, event, type, error, body) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (webhook_id, event) DO UPDATE SET at = clock_timestamp(), error = excluded.error`, id.New(), endpointID, d.id, d.typ, reason, d.body)
	if err != nil {
		return fmt.Errorf("keep a dead event: %w", err)
	}
	return nil
}

// noteAttempt stores a failed delivery.
func noteAttempt(ctx context.Context, q postgres.Querier, endpointID string, d delivery, o outcome) error {
	_, err := q.ExecContext(ctx, `INSERT INTO webhook_attempts (id, webhook_id, event, type, status, error, body) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		id.New(), endpointID, d.id, d.typ, o.statusOrNull(), o.reason, o.answer)
	if err != nil {
		return fmt.Errorf("keep a failed delivery: %w", err)
	}
	return nil
}
