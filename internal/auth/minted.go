package auth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
)

// Holder identifies the user and session of a refresh token.
type Holder struct {
	// UserID is empty for a token that is not ours.
	UserID string
	// Minted is set for a session that a server key opened.
	Minted bool
}

// HolderOf returns the user and session of a refresh token, the zero Holder for an unknown token.
func (s *Service) HolderOf(ctx context.Context, r *RefreshToken) (Holder, error) {
	var h Holder
	err := s.store.db.SQL.QueryRowContext(ctx, `SELECT s.user_id, s.minted_by IS NOT NULL FROM refresh_tokens t
		JOIN sessions s ON s.id = t.session_id WHERE t.hash = $1`, refreshHash(r.Token)).Scan(&h.UserID, &h.Minted)
	if errors.Is(err, sql.ErrNoRows) {
		return Holder{}, nil
	}
	if err != nil {
		return Holder{}, fmt.Errorf("find whose a refresh token is: %w", err)
	}
	return h, nil
}

// Mint opens a session for a user in the name of a server key, which is refreshed and ended like that of a login. With a ttl above 0, no
// refresh prolongs it beyond. The caller has found out that there is such a user.
func (s *Service) Mint(ctx context.Context, userID, keyID string, ttl time.Duration) (Pair, error) {
	sessionID := id.New()
	token, hash := newRefreshToken()
	lifetime := s.RefreshTTL
	var ends *float64
	if ttl > 0 {
		lifetime = min(lifetime, ttl)
		seconds := ttl.Seconds()
		ends = &seconds
	}
	var own chat.Own
	err := s.store.db.Tx(ctx, func(tx *gorm.DB) error {
		_, err := postgres.Exec(tx, `INSERT INTO sessions (id, user_id, user_agent, minted_by, expires_at, ends_at)
			VALUES ($1, $2, '', $3, clock_timestamp() + make_interval(secs => $4), clock_timestamp() + make_interval(secs => $5::double precision))`,
			sessionID, userID, keyID, lifetime.Seconds(), ends)
		if err != nil {
			return fmt.Errorf("mint a session: %w", err)
		}
		if err := insertToken(tx, hash, sessionID, nil); err != nil {
			return err
		}
		if own, err = readOwn(tx, userID); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{
			Action: "session.mint", TargetType: audit.TargetUser, TargetID: userID, Detail: map[string]any{"sessionId": sessionID},
		})
	})
	if err != nil {
		return Pair{}, err
	}
	p, err := s.pair(own, sessionID, token)
	if ttl > 0 {
		p.ExpiresIn = min(p.ExpiresIn, ttl)
	}
	return p, err
}

// EndAll ends all sessions of a user, in the name of the context's actor.
func (s *Service) EndAll(ctx context.Context, userID string) error {
	var ended []string
	err := s.store.db.Tx(ctx, func(tx *gorm.DB) error {
		var err error
		if ended, err = end(tx, userID, id.New(), true); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{
			Action: "session.end_all", TargetType: audit.TargetUser, TargetID: userID, Detail: map[string]any{"count": len(ended)},
		})
	})
	if err == nil {
		s.announce(ctx, ended)
	}
	return err
}

// DeleteExternal is DeleteAccount for a user of the product, who has no password.
func (s *Service) DeleteExternal(ctx context.Context, userID string) error {
	a, err := s.store.account(ctx, "id", userID)
	if err != nil {
		return err
	}
	if a.ID == "" {
		return ErrUnauthorized
	}
	return s.delete(ctx, a)
}
