package push

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/postgres"
)

// store holds the SQL of devices and preferences.
type store struct {
	db *postgres.DB
}

// device is a row of push_devices.
type device struct {
	userID, deviceID, sessionID     string
	provider, lane, address, secret string
	p256dh                          string
}

func (d *device) hash() []byte {
	h := sha256.Sum256([]byte(d.provider + " " + d.address))
	return h[:]
}

// put stores a device. If another device has the same address, that device is removed. If the user has more than maxDevices, those that
// were not seen for longest are removed. It returns ErrEnded if the user or session has ended meanwhile. Both are locked, so that a
// request that ends them later finds the device.
func (s *store) put(ctx context.Context, d *device) error {
	return s.db.Tx(ctx, func(tx *gorm.DB) error {
		q, ctx := postgres.In(tx), postgres.Context(tx)
		if err := lockOwner(ctx, q, d); err != nil {
			return err
		}
		// Serializes two users who register the same address at the same time.
		if _, err := q.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended(encode($1, 'hex'), 0))`, d.hash()); err != nil {
			return fmt.Errorf("lock an address: %w", err)
		}
		if _, err := q.ExecContext(ctx, `DELETE FROM push_devices WHERE address_hash = $1 AND (user_id, device_id) <> ($2::uuid, $3)`,
			d.hash(), d.userID, d.deviceID); err != nil {
			return fmt.Errorf("move an address: %w", err)
		}
		if _, err := q.ExecContext(ctx, `INSERT INTO push_devices AS d (user_id, device_id, provider, lane, address, address_hash, p256dh, auth, session_id)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			ON CONFLICT (user_id, device_id) DO UPDATE SET provider = excluded.provider, lane = excluded.lane, address = excluded.address,
				address_hash = excluded.address_hash, p256dh = excluded.p256dh, auth = excluded.auth, session_id = excluded.session_id,
				seen_at = clock_timestamp()`,
			d.userID, d.deviceID, d.provider, d.lane, d.address, d.hash(), d.p256dh, d.secret, orNull(d.sessionID)); err != nil {
			return fmt.Errorf("store a device: %w", err)
		}
		if _, err := q.ExecContext(ctx, `DELETE FROM push_devices WHERE id IN (
			SELECT id FROM push_devices WHERE user_id = $1 ORDER BY seen_at DESC, id OFFSET $2)`, d.userID, maxDevices); err != nil {
			return fmt.Errorf("remove the oldest device: %w", err)
		}
		return nil
	})
}

// lockOwner locks the device's user, so that the count of devices is exact, and its session.
func lockOwner(ctx context.Context, q postgres.Querier, d *device) error {
	var one int
	err := q.QueryRowContext(ctx, `SELECT 1 FROM users WHERE id = $1 AND deleted_at IS NULL
		AND (banned_at IS NULL OR banned_until <= clock_timestamp()) FOR NO KEY UPDATE`, d.userID).Scan(&one)
	if err == nil && d.sessionID != "" {
		err = q.QueryRowContext(ctx, `SELECT 1 FROM sessions WHERE id = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > clock_timestamp()
			FOR SHARE`, d.sessionID, d.userID).Scan(&one)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return ErrEnded
	}
	if err != nil {
		return fmt.Errorf("lock a device's session: %w", err)
	}
	return nil
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (s *store) delete(ctx context.Context, userID, deviceID string) error {
	return postgres.Write(ctx, s.db.SQL, func(ctx context.Context, q postgres.Querier) error {
		r, err := q.ExecContext(ctx, `DELETE FROM push_devices WHERE user_id = $1 AND device_id = $2`, userID, deviceID)
		if err != nil {
			return fmt.Errorf("remove a device: %w", err)
		}
		if n, err := r.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return postgres.ErrUnchanged
	})
}

func (s *store) preferences(ctx context.Context, userID string) (p Preferences, err error) {
	err = s.db.SQL.QueryRowContext(ctx, `SELECT coalesce(p.level, 'all'), coalesce(p.preview, true)
		FROM (SELECT) one LEFT JOIN push_preferences p ON p.user_id = $1`, userID).Scan(&p.Level, &p.Preview)
	if err != nil {
		return p, fmt.Errorf("read preferences: %w", err)
	}
	return p, nil
}

// change changes preferences and returns the new ones. It returns ErrEnded if the user was deleted meanwhile.
func (s *store) change(ctx context.Context, userID string, c *PreferencesChange) (p Preferences, err error) {
	var level *string
	var preview *bool
	if c.Level.Set {
		level = &c.Level.Value
	}
	if c.Preview.Set {
		preview = &c.Preview.Value
	}
	err = postgres.Write(ctx, s.db.SQL, func(ctx context.Context, q postgres.Querier) error {
		var changed bool
		err := q.QueryRowContext(ctx, `WITH old AS (SELECT level, preview FROM push_preferences WHERE user_id = $1),
			new AS (
				INSERT INTO push_preferences AS p (user_id, level, preview)
				SELECT u.id, coalesce($2, 'all'), coalesce($3, true) FROM (SELECT id FROM users WHERE id = $1 AND deleted_at IS NULL FOR SHARE) u
				ON CONFLICT (user_id) DO UPDATE SET level = coalesce($2, p.level), preview = coalesce($3, p.preview)
				RETURNING p.level, p.preview)
			SELECT new.level, new.preview, (new.level, new.preview) IS DISTINCT FROM (coalesce(old.level, 'all'), coalesce(old.preview, true))
			FROM new LEFT JOIN old ON true`, userID, level, preview).Scan(&p.Level, &p.Preview, &changed)
		if err == nil && !changed {
			return postgres.ErrUnchanged
		}
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return p, ErrEnded
	}
	if err != nil {
		return p, fmt.Errorf("change preferences: %w", err)
	}
	return p, nil
}
