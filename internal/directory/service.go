package directory

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/metadata"
	"github.com/parley-chat/parley/internal/postgres"
)

// Service manages users for a product's back end. Its methods may be called from any goroutine.
type Service struct {
	*Resolver
	db    *postgres.DB
	watch *Watch
	// onProfile is called, after the commit, with the users whose profiles changed.
	onProfile func(ctx context.Context, userIDs ...string)
}

// NewService makes the service. onProfile must not wait for long.
func NewService(db *postgres.DB, w *Watch, onProfile func(ctx context.Context, userIDs ...string)) *Service {
	return &Service{Resolver: NewResolver(db, w), db: db, watch: w, onProfile: onProfile}
}

// Get reads a user.
func (s *Service) Get(ctx context.Context, userID string) (User, error) {
	return get(ctx, s.db.SQL, userID, "")
}

// Update changes a user, and returns them as they are then.
func (s *Service) Update(ctx context.Context, userID string, p *Patch) (User, error) {
	return s.change(ctx, userID, "user.update", nil, func(tx *gorm.DB, u User) error {
		changed := u
		fields := Fields(*p)
		if merge := fields.Metadata; merge.Set && !merge.Null {
			merged, err := metadata.Merge(u.Metadata, merge.Value)
			if err != nil {
				return invalid.One("metadata", "is too large once it is merged")
			}
			fields.Metadata.Value = merged
		}
		fields.apply(&changed)
		if same(u, changed) {
			return postgres.ErrUnchanged
		}
		var r rows
		r.add(changed)
		return r.update(tx)
	})
}

// Deactivate keeps a user from using Parley, and from being found. Messages and memberships stay.
func (s *Service) Deactivate(ctx context.Context, userID string) (User, error) {
	return s.set(ctx, userID, "user.deactivate", nil, `deactivated_at = clock_timestamp()`, `deactivated_at IS NULL`)
}

// Reactivate undoes Deactivate.
func (s *Service) Reactivate(ctx context.Context, userID string) (User, error) {
	return s.set(ctx, userID, "user.reactivate", nil, `deactivated_at = NULL`, `deactivated_at IS NOT NULL`)
}

// Ban keeps a user from using Parley until a time, or until the ban is lifted. A ban takes the place of the one before.
func (s *Service) Ban(ctx context.Context, userID string, b *BanRequest) (User, error) {
	if b.Until != nil && !b.Until.After(time.Now()) {
		return User{}, invalid.One("until", "must be in the future")
	}
	var until any
	detail := map[string]any{}
	if b.Until != nil {
		until, detail["until"] = b.Until.Time, b.Until
	}
	return s.set(ctx, userID, "user.ban", detail, `banned_at = clock_timestamp(), banned_until = $3, ban_reason = $4`, `true`, until, b.Reason)
}

// Unban lifts a user's ban. Nothing changes for a user who is not banned.
func (s *Service) Unban(ctx context.Context, userID string) (User, error) {
	return s.set(ctx, userID, "user.unban", nil, `banned_at = NULL, banned_until = NULL, ban_reason = NULL`, `banned_at IS NOT NULL`)
}

// set changes columns where a condition holds.
func (s *Service) set(ctx context.Context, userID, action string, detail map[string]any, set, where string, args ...any) (User, error) {
	return s.change(ctx, userID, action, detail, func(tx *gorm.DB, _ User) error {
		res, err := postgres.In(tx).ExecContext(postgres.Context(tx), `UPDATE users SET `+set+` FROM`+audit.ActorSQL("$2")+`WHERE id = $1 AND `+where,
			append([]any{userID, audit.From(ctx).ForOutbox()}, args...)...)
		if err != nil {
			return fmt.Errorf("%s: %w", action, err)
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return postgres.ErrUnchanged
	})
}

// change locks a user's row, changes it, records that and returns the user as they are then. What the pod knows of the user's standing
// follows at once.
func (s *Service) change(ctx context.Context, userID, action string, detail map[string]any, f func(tx *gorm.DB, u User) error) (u User, err error) {
	changed := false
	err = s.db.Tx(ctx, func(tx *gorm.DB) error {
		u, err = get(postgres.Context(tx), postgres.In(tx), userID, "FOR NO KEY UPDATE")
		if err != nil {
			return err
		}
		if err := f(tx, u); err != nil {
			return err
		}
		changed = true
		if u, err = get(postgres.Context(tx), postgres.In(tx), userID, ""); err != nil {
			return err
		}
		return audit.Record(ctx, tx, audit.Entry{Action: action, TargetType: audit.TargetUser, TargetID: userID, Detail: detail})
	})
	switch {
	case postgres.IsUniqueViolation(err, usernameKey):
		return User{}, ErrUsernameTaken
	case err != nil:
		return User{}, err
	case changed && action == "user.update":
		s.onProfile(ctx, userID)
	case changed:
		s.watch.Look(ctx, userID)
	}
	return u, nil
}
